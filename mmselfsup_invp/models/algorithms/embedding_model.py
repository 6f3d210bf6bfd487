import torch.nn.functional as F
from mmselfsup.models import BaseModel
from torch import Tensor, nn


class EmbeddingModel(BaseModel):
    """A backbone and a neck that give each image a unit vector: what the methods here share."""

    def extract_feat(self, inputs: list[Tensor], **kwargs) -> tuple[Tensor, ...]:
        """Feature maps of the backbone for the first view, ``(B, 3, H, W)``."""
        return self.backbone(inputs[0])

    def embed(self, image: Tensor) -> Tensor:
        """Unit embedding of the images, float32, shape ``(B, D)``."""
        return F.normalize(self.neck(self.backbone(image))[0].float(), dim=1)

    def encoder(self) -> nn.Sequential:
        """Backbone and neck as one module."""
        return nn.Sequential(self.backbone, self.neck)
