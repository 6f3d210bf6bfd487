from torch import Tensor

from ...compat.host import MODELS
from ...options import Fraction, checked
from ..memories import ClusterMemory
from .embedding_model import EmbeddingModel


@MODELS.register_module()
@checked
class InterCLR(EmbeddingModel):
    """InterCLR on a memory bank: an intra-image branch and an inter-image branch.

    `Delving into Inter-Image Invariance for Unsupervised Visual Representations
    <https://arxiv.org/abs/2008.11702>`_, first version. One augmented view of an image is its
    query. Both branches read the bank of the inter branch:
    ``L = lambda * L_intra + (1 - lambda) * L_inter``. Needs ``OnlineClusterHook``, and
    ``sample_idx`` with every sample.

    Args:
        branch (dict): Config of the inter branch, :class:`OnlineClusterBranch`.
        intra_weight (float): lambda, within 0 to 1; 1 is the intra branch alone, and the other is
            not computed. Defaults to 0.75 (the paper; 0.5 in its studies).
        **kwargs: See :class:`EmbeddingModel`; the head is the intra branch,
            :class:`BankMarginHead`.
    """

    def __init__(self, *, branch: dict, intra_weight: Fraction = 0.75, **kwargs) -> None:
        super().__init__(**kwargs)
        self.branch = MODELS.build(branch)
        self.intra_weight = intra_weight

    @property
    def memory(self) -> ClusterMemory:
        """The memory of the branch, which both branches read."""
        return self.branch.memory

    def losses(self, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
        """``loss_intra``, weighted, and the output of :meth:`OnlineClusterBranch.forward`."""
        query = self.embed(views[0])
        losses = self.branch(query, sample_idx, weight=1 - self.intra_weight)
        intra = self.head(query, sample_idx, self.memory.bank)
        return dict(loss_intra=self._intra_share() * intra, **losses)

    def _intra_share(self) -> float:
        """lambda; 1 while the inter branch warms up."""
        return 1 - (1 - self.intra_weight) * self.branch.ramp
