from typing import Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ...compat.host import MODELS
from ...ops import Neighbours, Positives
from ...ops.graph import Edges, Hops, Mode, nearest_others
from ...options import InitCfg, NonNegativeFloat, PositiveInt, checked
from ..memories import GraphMemory


@MODELS.register_module()
@checked
class InvPHead(BaseModule):
    """Find the positives of each image and compute the weighted sum of the two losses of InvP.

    ``L = lambda_ins * L_ins + lambda_inv * omega(t) * L_inv``, section 3.3 of `InvP
    <https://arxiv.org/abs/2010.11694>`_. One search of the memory provides the hard negatives and
    the new neighbours of the batch, see :func:`~mmselfsup_invp.ops.invp_step`.

    Args:
        loss (dict, optional): Config of the loss. Defaults to None: :class:`HardSamplingLoss`
            with the paper's options.
        positive (str): ``'propagate'`` follows the edges of the graph (the paper); ``'knn'``
            takes the nearest rows of the query instead (the ablation of Table 5). Defaults to
            ``'propagate'``.
        hops, propagation, edges: ``hops``, ``mode`` and ``edges`` of
            :func:`~mmselfsup_invp.ops.propagate`. Mutual edges give fewer positives, more of them
            of the anchor's class.
        knn_k (int): Number of positives for ``positive='knn'``. The paper does not state it; 50
            (= P) is our choice. Defaults to 50.
        lambda_inv (float): Weight of the propagation loss; 0 is instance discrimination alone
            and skips the propagation. Defaults to 0.6.
        lambda_ins (float): Weight of the instance loss. Defaults to 1 (the paper).
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        ramp (float): omega(t), set by the hook at the start of every epoch. Initially 1.
    """

    def __init__(
        self,
        loss: dict | None = None,
        positive: Literal['propagate', 'knn'] = 'propagate',
        hops: Hops = 3,
        propagation: Mode = 'set',
        edges: Edges = 'all',
        knn_k: PositiveInt = 50,
        lambda_inv: NonNegativeFloat = 0.6,
        lambda_ins: NonNegativeFloat = 1.0,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        # With its scope, because the default scope of a run may be another project's.
        self.loss = MODELS.build(loss or dict(type='mmselfsup.HardSamplingLoss'))
        self.positive = positive
        self.hops = hops
        self.propagation = propagation
        self.edges = edges
        self.knn_k = knn_k
        self.lambda_inv = lambda_inv
        self.lambda_ins = lambda_ins
        self.ramp = 1.0

    def forward(self, query: Tensor, anchor: Tensor, memory: GraphMemory) -> dict[str, Tensor]:
        """Compute the losses of a batch and stage it in the memory.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            anchor (Tensor): int64, shape ``(B,)``, the rows of these images in the memory.
            memory (GraphMemory): Bank and graph.

        Returns:
            dict[str, Tensor]: ``loss_ins`` and ``loss_inv``, weighted (the latter is 0 while the
            ramp is 0), and, for the log, ``num_positives``, the mean size of N(i).

        Raises:
            RuntimeError: If the memory has no rows yet.
        """
        memory.require_rows()
        weight = self.lambda_inv * self.ramp

        def find_positives(nearest: Neighbours, neighbours: Tensor) -> Positives | None:
            # Staged first because a queue adds these edges to the graph before the propagation.
            memory.stage(anchor, query, neighbours)
            return self.find_positives(memory, anchor, nearest) if weight else None

        step = self.loss(
            query,
            memory.bank,
            anchor,
            find_positives,
            num_neighbours=memory.num_neighbours,
            min_width=self.knn_k + 1 if self.positive == 'knn' else 0,
            backend=memory.backend,
        )
        instance = self.lambda_ins * step.instance
        if step.positive is None:
            zero = torch.zeros_like(instance)
            return dict(loss_ins=instance, loss_inv=zero, num_positives=zero)
        return dict(
            loss_ins=instance,
            loss_inv=weight * step.propagation,
            num_positives=step.positive.mask.sum(dim=1).float().mean(),
        )

    def find_positives(self, memory: GraphMemory, anchor: Tensor, nearest: Neighbours) -> Positives:
        """Find the positives of each anchor, ``(B, L)``."""
        if self.positive == 'propagate':
            return memory.propagate(anchor, self.hops, self.propagation, self.edges)
        index = nearest_others(nearest, anchor, self.knn_k)
        return Positives(index, torch.ones_like(index, dtype=torch.bool))
