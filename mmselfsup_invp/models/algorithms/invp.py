from torch import Tensor

from ...compat.host import MODELS
from ...options import NonNegativeFloat, checked
from .embedding_model import EmbeddingModel


@MODELS.register_module()
@checked
class InvP(EmbeddingModel):
    """Invariance Propagation.

    `Unsupervised Representation Learning by Invariance Propagation
    <https://arxiv.org/abs/2010.11694>`_. One augmented view of an image is its query. Its
    positives are found by walking the kNN graph over a bank with one feature per image. Needs
    ``PropagationMemoryHook``, and ``sample_idx`` with every sample.

    Args:
        memory (dict): Config of the memory, :class:`PropagationMemory`.
        branch (dict, optional): Config of a further loss on the same query,
            :class:`OnlineClusterBranch`, which needs ``OnlineClusterHook`` too. Defaults to None.
        branch_weight (float): Weight of that loss. Defaults to 0.25.
        **kwargs: See :class:`EmbeddingModel`; the head is :class:`InvPHead`.

    Raises:
        ValueError: If the memory or the head needs the keys of a momentum encoder.

    Attributes:
        inserts_keys (bool): Whether the keys of a momentum encoder enter the memory.
    """

    inserts_keys = False

    def __init__(
        self,
        *,
        memory: dict,
        branch: dict | None = None,
        branch_weight: NonNegativeFloat = 0.25,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.memory = MODELS.build(memory)
        for part in (self.memory, self.head):
            if getattr(part, 'needs_keys', False) and not self.inserts_keys:
                raise ValueError(
                    f'{type(part).__name__} needs the keys of a momentum encoder, which '
                    f'{type(self).__name__} does not have: use MomentumInvP or SoftInvP.'
                )
        self.branch = None if branch is None else MODELS.build(branch)
        self.branch_weight = branch_weight

    def losses(self, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
        """See :meth:`InvPHead.forward` and, with a branch, :meth:`OnlineClusterBranch.forward`."""
        query = self.embed(views[0])
        losses = self.head(query, sample_idx, self.memory)
        return losses | self.branch_loss(query, sample_idx)

    def branch_loss(
        self, query: Tensor, sample_idx: Tensor, key: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses of the branch, none without a branch; see :meth:`OnlineClusterBranch.forward`."""
        if self.branch is None:
            return {}
        return self.branch(query, sample_idx, key=key, weight=self.branch_weight)
