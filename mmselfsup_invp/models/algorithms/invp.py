import torch
import torch.nn.functional as F
from mmselfsup.models import BaseModel
from mmselfsup.registry import MODELS
from mmselfsup.structures import SelfSupDataSample
from torch import Tensor


@MODELS.register_module()
class InvP(BaseModel):
    """Invariance Propagation.

    `Unsupervised Representation Learning by Invariance Propagation
    <https://arxiv.org/abs/2010.11694>`_. One augmented view of an image is its query; its
    positives are found by walking the kNN graph over a bank of one feature per image. Needs
    ``PropagationMemoryHook`` among the custom hooks, and ``sample_idx`` with every sample.

    Args:
        backbone (dict): Config of the backbone.
        neck (dict): Config of the neck, whose first output is the embedding, ``(B, D)``.
        head (dict): Config of the head, :class:`InvPHead`.
        memory (dict): Config of the memory, :class:`PropagationMemory`.
        pretrained (str, optional): Path of a checkpoint to start from. Defaults to None.
        data_preprocessor (dict, optional): Config of the data preprocessor. Defaults to None,
            MMSelfSup's ``SelfSupDataPreprocessor``.
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to None.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        memory: dict,
        pretrained: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            pretrained=pretrained,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.memory = MODELS.build(memory)

    def extract_feat(self, inputs: list[Tensor], **kwargs) -> tuple[Tensor, ...]:
        """Feature maps of the backbone for the first view, ``(B, 3, H, W)``."""
        return self.backbone(inputs[0])

    def embed(self, image: Tensor) -> Tensor:
        """Unit embedding of the images, float32, shape ``(B, D)``."""
        return F.normalize(self.neck(self.backbone(image))[0].float(), dim=1)

    def loss(
        self, inputs: list[Tensor], data_samples: list[SelfSupDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of single views.

        Args:
            inputs (list[Tensor]): One view, shape ``(B, 3, H, W)``.
            data_samples (list[SelfSupDataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: See :meth:`InvPHead.forward`.
        """
        query = self.embed(inputs[0])
        return self.head(query, sample_ids(data_samples), self.memory)


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
