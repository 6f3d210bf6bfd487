import torch
import torch.nn.functional as F
from mmselfsup.models import BaseModel
from mmselfsup.structures import SelfSupDataSample
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


def sample_ids(data_samples: list[SelfSupDataSample]) -> Tensor:
    """Collect ``sample_idx`` of a batch, int64, shape ``(B,)``.

    Raises:
        ValueError: If the samples carry none.
    """
    if 'sample_idx' not in data_samples[0]:
        raise ValueError(
            'The samples carry no sample_idx. End the training pipeline with '
            "dict(type='PackSelfSupInputs', algorithm_keys=['sample_idx'], ...)."
        )
    return torch.cat([sample.sample_idx.value for sample in data_samples]).long()
