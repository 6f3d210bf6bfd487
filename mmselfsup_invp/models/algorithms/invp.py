from mmselfsup.registry import MODELS
from mmselfsup.structures import SelfSupDataSample
from torch import Tensor

from ...structures import sample_ids
from .embedding_model import EmbeddingModel


@MODELS.register_module()
class InvP(EmbeddingModel):
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
        branch (dict, optional): Config of a further loss on the same query,
            :class:`OnlineClusterBranch`, which needs ``OnlineClusterHook`` too. Defaults to None.
        branch_weight (float): Weight of that loss. Defaults to 0.25.
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
        branch: dict | None = None,
        branch_weight: float = 0.25,
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
        if branch_weight < 0:
            raise ValueError(f'branch_weight = {branch_weight} must not be negative.')
        self.memory = MODELS.build(memory)
        self.branch = None if branch is None else MODELS.build(branch)
        self.branch_weight = branch_weight

    def loss(
        self, inputs: list[Tensor], data_samples: list[SelfSupDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of single views.

        Args:
            inputs (list[Tensor]): One view, shape ``(B, 3, H, W)``.
            data_samples (list[SelfSupDataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: See :meth:`InvPHead.forward` and, with a branch,
            :meth:`OnlineClusterBranch.forward`.
        """
        query = self.embed(inputs[0])
        sample = sample_ids(data_samples, query.device)
        losses = self.head(query, sample, self.memory)
        if self.branch is not None:
            losses |= self.branch(query, sample, weight=self.branch_weight)
        return losses
