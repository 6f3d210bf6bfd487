from mmselfsup.models import BaseModel
from mmselfsup.registry import MODELS
from mmselfsup.structures import SelfSupDataSample
from torch import Tensor

from ...structures import sample_ids


@MODELS.register_module()
class SeLa(BaseModel):
    """Self-labelling: classify images by labels that the network gave itself.

    `Self-labelling via simultaneous clustering and representation learning
    <https://arxiv.org/abs/1911.05371>`_. Labels that share the images equally among the classes
    and gradient steps on them take turns. Needs ``SelfLabelHook``, which labels the images anew
    now and then, among the hooks, and ``sample_idx`` with every sample.

    Args:
        backbone (dict): Config of the backbone.
        neck (dict): Config of the neck, whose first output are the features, ``(B, D)``.
        head (dict): Config of the head, :class:`SelfLabelHead`.
        memory (dict): Config of the labels, :class:`SelfLabelMemory`; ``num_classes`` and
            ``num_heads`` are those of the head.
        pretrained (str, optional): Path of a checkpoint to start from. Defaults to None.
        data_preprocessor (dict, optional): Config of the data preprocessor. Defaults to None,
            MMSelfSup's ``SelfSupDataPreprocessor``.
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to None.

    Raises:
        ValueError: If head and memory differ in classes or heads.
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
        for name in ('num_classes', 'num_heads'):
            ours, theirs = getattr(self.head, name), getattr(self.memory, name)
            if ours != theirs:
                raise ValueError(
                    f'head.{name} = {ours} and memory.{name} = {theirs} must be equal.'
                )

    def extract_feat(self, inputs: list[Tensor], **kwargs) -> tuple[Tensor, ...]:
        """Feature maps of the backbone for the first view, ``(B, 3, H, W)``."""
        return self.backbone(inputs[0])

    def embed(self, image: Tensor) -> Tensor:
        """Features that the heads classify, not normalised, shape ``(B, D)``."""
        return self.neck(self.backbone(image))[0]

    def loss(
        self, inputs: list[Tensor], data_samples: list[SelfSupDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch of single views.

        Args:
            inputs (list[Tensor]): One view, shape ``(B, 3, H, W)``.
            data_samples (list[SelfSupDataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: See :meth:`SelfLabelHead.forward`.

        Raises:
            RuntimeError: If there are no labels yet.
        """
        if not len(self.memory):
            raise RuntimeError(
                'There are no labels. Add the hook that gives them to the config: '
                "default_hooks = dict(self_label=dict(type='SelfLabelHook'))."
            )
        sample = sample_ids(data_samples, inputs[0].device)
        feature = self.embed(inputs[0])
        self.memory.keep_finite(sample, feature.detach())
        return self.head(feature, self.memory.labels[sample])
