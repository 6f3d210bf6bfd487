import torch
from mmengine.model import BaseModule
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops.checks import require_choice, require_range
from ..memories import GraphMemory


@MODELS.register_module()
class InvPHead(BaseModule):
    """Find the positives of each image and weigh the two losses of InvP.

    ``L = L_ins + lambda_inv * omega(t) * L_inv``, section 3.4 of `InvP
    <https://arxiv.org/abs/2010.11694>`_. One search of the memory serves the losses, the hard
    negatives and the refresh of the graph.

    Args:
        loss (dict): Config of the loss. Defaults to ``dict(type='HardSamplingLoss')``.
        positive (str): ``'propagate'`` walks the graph (the paper); ``'knn'`` takes the nearest
            rows of the query instead (the ablation of Table 5). Defaults to ``'propagate'``.
        hops (int): l, steps of the walk. Defaults to 3.
        propagation (str): ``'set'``, the definition, or ``'concat'``, the official list with
            repeats. Defaults to ``'set'``.
        knn_k (int): Positives with ``positive='knn'``; the paper does not give its number, 50
            (= P) is our choice. Defaults to 50.
        lambda_inv (float): Weight of the propagation loss; 0 is instance discrimination alone,
            without the cost of the other. Defaults to 0.6.
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        ramp (float): omega(t), set by the hook at the start of every epoch. 1 until it is set.
    """

    def __init__(
        self,
        loss: dict | None = None,
        positive: str = 'propagate',
        hops: int = 3,
        propagation: str = 'set',
        knn_k: int = 50,
        lambda_inv: float = 0.6,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_choice('positive', positive, ('propagate', 'knn'))
        require_choice('propagation', propagation, ('set', 'concat'))
        require_range('hops', hops, 1, 16, 'the walk takes k ** hops steps')
        require_range('knn_k', knn_k, 1, 2**31, 'the loss needs a positive')
        if lambda_inv < 0:
            raise ValueError(f'lambda_inv = {lambda_inv} must not be negative; 0 turns it off.')
        # With its scope, for the scope of a run may be that of another project.
        self.loss = MODELS.build(loss or dict(type='mmselfsup.HardSamplingLoss'))
        self.positive = positive
        self.hops = hops
        self.propagation = propagation
        self.knn_k = knn_k
        self.lambda_inv = lambda_inv
        self.ramp = 1.0

    def forward(self, query: Tensor, anchor: Tensor, memory: GraphMemory) -> dict[str, Tensor]:
        """Compute the losses of a batch and hand it to the memory.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            anchor (Tensor): int64, shape ``(B,)``, the memory's rows of these images.
            memory (GraphMemory): The rows and the graph.

        Returns:
            dict[str, Tensor]: ``loss_ins``, ``loss_inv`` (weighted; 0 while the ramp is 0) and,
            to be logged, ``num_positives``, the mean size of N(i).
        """
        nearest = memory.search(query, self.search_width(memory))
        memory.stage(anchor, query, memory.nearest_others(nearest, anchor))
        weight = self.lambda_inv * self.ramp
        positive = self.find_positives(memory, anchor, nearest) if weight else None
        instance, propagation = self.loss(query, memory.bank, anchor, nearest, positive)
        if positive is None:
            zero = torch.zeros_like(instance)
            return dict(loss_ins=instance, loss_inv=zero, num_positives=zero)
        return dict(
            loss_ins=instance,
            loss_inv=weight * propagation,
            num_positives=positive[1].sum(dim=1).float().mean(),
        )

    def search_width(self, memory: GraphMemory) -> int:
        """Nearest rows one search must give for all that uses it."""
        knn = self.knn_k + 1 if self.positive == 'knn' else 0
        return max(self.loss.search_width, memory.num_neighbours + 1, knn)

    def find_positives(
        self, memory: GraphMemory, anchor: Tensor, nearest: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Index and mask of the positives, both ``(B, L)``."""
        if self.positive == 'propagate':
            return memory.propagate(anchor, self.hops, self.propagation)
        index = memory.nearest_others(nearest, anchor, self.knn_k)
        return index, torch.ones_like(index, dtype=torch.bool)
