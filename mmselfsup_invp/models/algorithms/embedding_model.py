import torch.nn.functional as F
from torch import Tensor, nn

from ...compat.host import BaseModel, DataSample
from ...memory.state import own_buffers
from ...options import InitCfg, checked
from ...structures import SampleBatch, as_views, sample_ids


@checked
class EmbeddingModel(BaseModel):
    """Base of the algorithms: a backbone and a neck that embed an image, and a head.

    A subclass implements :meth:`losses`.

    Args:
        backbone (dict): Config of the backbone.
        neck (dict): Config of the neck, whose first output is the embedding, ``(B, D)``.
        head (dict): Config of the head.
        pretrained (str, optional): Path of a checkpoint to start from. Defaults to None.
        data_preprocessor (dict, optional): Config of the data preprocessor. Defaults to None,
            the host's ``SelfSupDataPreprocessor``.
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to None.

    Attributes:
        temperature_option (str): Where a config sets the temperature of the main loss.
    """

    temperature_option = 'model.head.loss.temperature'

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        pretrained: str | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            pretrained=pretrained,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """Buffers that DistributedDataParallel must not copy from the first process."""
        return own_buffers(self)

    def forward(
        self,
        inputs: Tensor | list[Tensor],
        data_samples: SampleBatch | list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Compute feature maps or losses, as MMEngine's ``BaseModel``.

        Args:
            inputs (Tensor | list[Tensor]): One view, or a list of views, each ``(B, 3, H, W)``.
            data_samples (SampleBatch | list[DataSample], optional): With ``sample_idx``.
                Defaults to None.
            mode (str): ``'tensor'``: :meth:`extract_feat`; ``'loss'``: the losses of the
                algorithm. Defaults to ``'tensor'``.
        """
        return super().forward(as_views(inputs), data_samples, mode)

    def loss(
        self, inputs: list[Tensor], data_samples: SampleBatch | list[DataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch, see :meth:`losses`.

        Args:
            inputs (list[Tensor]): Views of the images, ``(B, 3, H, W)`` each; with a momentum
                encoder two: query and key.
            data_samples (SampleBatch | list[DataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: Losses, and values to log, by name.

        Raises:
            ValueError: If a view or ``sample_idx`` is missing.
            RuntimeError: If the memory has no rows yet.
        """
        return self.losses(inputs, sample_ids(data_samples, inputs[0].device))

    def losses(self, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
        """Compute the losses from the views and ``sample_idx``, int64, ``(B,)``."""
        raise NotImplementedError

    def extract_feat(self, inputs: Tensor | list[Tensor], **kwargs) -> tuple[Tensor, ...]:
        """Feature maps of the backbone for the first view, ``(B, 3, H, W)``."""
        return self.backbone(as_views(inputs)[0])

    def project(self, image: Tensor) -> Tensor:
        """Output of the neck as it is, shape ``(B, D)``."""
        return self.neck(self.backbone(image))[0]

    def embed(self, image: Tensor) -> Tensor:
        """Unit embedding of the images, float32, shape ``(B, D)``."""
        return F.normalize(self.project(image).float(), dim=1)

    def encoder(self) -> nn.Sequential:
        """Backbone and neck as one module."""
        return nn.Sequential(self.backbone, self.neck)
