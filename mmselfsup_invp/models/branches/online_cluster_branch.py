from mmengine.model import BaseModule
from torch import Tensor

from ... import ops
from ...compat.host import MODELS
from ...ops import collectives
from ...ops.negatives import Strategy
from ...options import InitCfg, PositiveFraction, PositiveInt, checked
from ..memories import ClusterMemory


@MODELS.register_module()
@checked
class OnlineClusterBranch(BaseModule):
    """Contrast each image with one of its cluster and with images of others: ``L_inter``.

    The inter-image branch of InterCLR (`arXiv:2008.11702 <https://arxiv.org/abs/2008.11702>`_,
    section 3). It can be added to any algorithm that has a query embedding and ``sample_idx``. It
    needs ``OnlineClusterHook``. The labels are those before the update of this step.

    Args:
        memory (dict): Config of the memory, :class:`ClusterMemory`.
        num_negatives (int): K, negatives of each image. Defaults to 16384 (the paper; 4096 in
            its studies).
        negatives (str): ``'hard'``, ``'semi_hard'``, ``'random'`` or ``'semi_easy'``; see
            :func:`~mmselfsup_invp.ops.sample_negatives`. Defaults to ``'semi_hard'`` (the paper).
        pool_ratio (float): Share of the candidates in the pool of the semi strategies.
            Defaults to 0.1 (the paper).
        loss (dict, optional): Config of the loss, :class:`MarginNCELoss`. Defaults to None:
            temperature 0.1 and cosine margin -0.5 (the paper; its later code has 0.2).
        exclude_self (bool): Whether an image's own row is not drawn as its positive, unless it is
            alone in its cluster. Defaults to False (the paper and its code).
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        ramp (float): Factor of the loss, set by the hook at the start of every epoch: 0 during
            the warm-up. 1 until it is set.
    """

    def __init__(
        self,
        memory: dict,
        num_negatives: PositiveInt = 16384,
        negatives: Strategy = 'semi_hard',
        pool_ratio: PositiveFraction = 0.1,
        loss: dict | None = None,
        exclude_self: bool = False,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.memory: ClusterMemory = MODELS.build(memory)
        self.num_negatives = num_negatives
        self.negatives = negatives
        self.pool_ratio = pool_ratio
        self.loss = MODELS.build(
            loss or dict(type='mmselfsup.MarginNCELoss', temperature=0.1, margin=-0.5)
        )
        self.exclude_self = exclude_self
        self.ramp = 1.0

    def forward(
        self, query: Tensor, sample_idx: Tensor, key: Tensor | None = None, weight: float = 1.0
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch and stage the batch for the memory.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            sample_idx (Tensor): int64, shape ``(B,)``, rows of the images.
            key (Tensor, optional): Float, unit rows, shape ``(B, D)``: written to the memory.
                Defaults to None, the query.
            weight (float): Factor of the loss, beside :attr:`ramp`. With 0 it is not computed.

        Returns:
            dict[str, Tensor]: ``loss_inter``, weighted, and, to be logged, ``short_pools``: the
            share of images with fewer than K candidates, whose negatives repeat.

        Raises:
            RuntimeError: If the memory has no rows.
        """
        self.memory.require_rows()
        self.memory.stage(sample_idx, query if key is None else key)
        weight = weight * self.ramp
        if not weight:
            zero = query.new_zeros(())
            return dict(loss_inter=zero, short_pools=zero)
        loss, short = self._contrast(query, sample_idx)
        return dict(loss_inter=weight * loss, short_pools=short)

    def _contrast(self, query: Tensor, sample_idx: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss, and the share of images with fewer than K candidates."""
        memory = self.memory
        label = memory.labels[sample_idx]
        positive = ops.sample_positive(
            memory.labels, label, anchor=sample_idx if self.exclude_self else None
        )
        negative = ops.sample_negatives(
            self.negatives,
            query.detach(),
            memory.bank,
            memory.labels,
            label,
            self.num_negatives,
            self.pool_ratio,
        )
        # An image whose cluster holds all images has no negative and is left out of the mean.
        lonely = negative.index[:, 0] == ops.NO_NEGATIVE
        loss = self.loss(
            ops.bank_similarity(query, memory.bank, positive[:, None]).squeeze(1),
            ops.bank_similarity(
                query, memory.bank, negative.index.clamp(min=0), negative.similarity
            ),
        )
        mean = collectives.mean_where(~lonely, loss)
        candidates = len(memory) - ops.cluster_sizes(memory.labels, memory.num_clusters)[label]
        return mean, (candidates < self.num_negatives).float().mean()
