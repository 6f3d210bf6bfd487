from mmselfsup.registry import MODELS
from mmselfsup.structures import SelfSupDataSample
from torch import Tensor

from ...structures import sample_ids
from ..memories import ClusterMemory
from .embedding_model import EmbeddingModel


@MODELS.register_module()
class InterCLR(EmbeddingModel):
    """InterCLR on a memory bank: an intra-image branch beside an inter-image branch.

    `Delving into Inter-Image Invariance for Unsupervised Visual Representations
    <https://arxiv.org/abs/2008.11702>`_, first version. One augmented view of an image is its
    query. Both branches read one bank, that of the inter branch:
    ``L = lambda * L_intra + (1 - lambda) * L_inter``. Needs ``OnlineClusterHook``, and
    ``sample_idx`` with every sample.

    Args:
        backbone (dict): Config of the backbone.
        neck (dict): Config of the neck, whose first output is the embedding, ``(B, D)``.
        head (dict): Config of the intra branch, :class:`BankMarginHead`.
        branch (dict): Config of the inter branch, :class:`OnlineClusterBranch`.
        intra_weight (float): lambda, within 0 to 1; 1 is the intra branch alone, without the cost
            of the other. Defaults to 0.75 (the paper; 0.5 in its studies).
        pretrained (str, optional): Path of a checkpoint to start from. Defaults to None.
        data_preprocessor (dict, optional): Config of the data preprocessor. Defaults to None,
            MMSelfSup's ``SelfSupDataPreprocessor``.
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to None.

    Raises:
        ValueError: If ``intra_weight`` is outside its range.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        branch: dict,
        intra_weight: float = 0.75,
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
        if not 0 <= intra_weight <= 1:
            raise ValueError(f'intra_weight = {intra_weight} must be within 0 to 1.')
        self.branch = MODELS.build(branch)
        self.intra_weight = intra_weight

    @property
    def memory(self) -> ClusterMemory:
        """The bank, for the evaluation."""
        return self.branch.memory

    def loss(
        self, inputs: list[Tensor], data_samples: list[SelfSupDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of single views.

        Args:
            inputs (list[Tensor]): One view, shape ``(B, 3, H, W)``.
            data_samples (list[SelfSupDataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: ``loss_intra``, weighted, and what
            :meth:`OnlineClusterBranch.forward` gives.
        """
        query = self.embed(inputs[0])
        sample = sample_ids(data_samples, query.device)
        losses = self.branch(query, sample, weight=1 - self.intra_weight)
        intra = self.head(query, sample, self.memory.bank)
        return dict(loss_intra=self._intra_share() * intra, **losses)

    def _intra_share(self) -> float:
        """lambda; all while the inter branch warms up."""
        return 1 - (1 - self.intra_weight) * self.branch.ramp
