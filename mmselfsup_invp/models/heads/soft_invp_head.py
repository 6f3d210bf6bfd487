import torch
from mmengine.model import BaseModule
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops import soft_cross_entropy, soft_walk
from ...ops.checks import require_choice, require_positive, require_range
from ...ops.graph import EDGES
from ..memories import GraphMemory


@MODELS.register_module()
class SoftInvPHead(BaseModule):
    """Match the query's relations to the rows to those that the teacher's key has by propagation.

    ``L = a * L_ins + (1 - a) * L_soft``. ``L_ins`` is the cross entropy of the query with the row
    of its own image, ``L_soft`` that with a distribution q over other rows::

        q = flat + b * omega(t) * (walk - |walk| * flat)

    ``flat`` is the softmax of the key over its nearest rows, the relation that `SCE
    <https://arxiv.org/abs/2111.14585>`_ transfers. ``walk`` is where a random walk on the kNN
    graph ends (:func:`~mmselfsup_invp.ops.soft_walk`), whose weights add up to |walk|; that is 0
    for an image without a trusted edge, which keeps its flat target.

    Args:
        temperature (float): Of the query's softmax. Defaults to 0.1.
        key_temperature (float): Of the key's softmax and of the edges; the lower, the sharper.
            Defaults to 0.05.
        instance_weight (float): a, 0 to 1. Defaults to 0.5.
        propagation (float): b, 0 to 1, weight of the walk in the target; 0 turns the graph off.
            Defaults to 0.5.
        hops (int): Most steps of the walk. Defaults to 2.
        branches (int): Edges of a row among which the walk chooses. Defaults to 5.
        restart (float): Probability that a walk stops after a step. Defaults to 0.5.
        edges (str): ``'all'`` or ``'mutual'``: edges that the walk may take. Defaults to
            ``'all'``.
        trust (float): Share of a batch's edges that the walk may take, the most similar. Defaults
            to 0.1.
        num_target (int): Nearest rows of the key that the flat target names. Defaults to 256.
        num_background (int, optional): Nearest rows of the key that the softmax of the query runs
            over; None for all rows. Defaults to 4096.
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        ramp (float): omega(t), set by the hook at the start of every epoch. 1 until it is set.
    """

    # Walks the graph, as the hook asks.
    positive = 'propagate'

    def __init__(
        self,
        temperature: float = 0.1,
        key_temperature: float = 0.05,
        instance_weight: float = 0.5,
        propagation: float = 0.5,
        hops: int = 2,
        branches: int = 5,
        restart: float = 0.5,
        edges: str = 'all',
        trust: float = 0.1,
        num_target: int = 256,
        num_background: int | None = 4096,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_positive('temperature', temperature, '0.1')
        require_positive('key_temperature', key_temperature, '0.05')
        require_choice('edges', edges, EDGES)
        require_range('hops', hops, 1, 16, 'the walk takes k ** hops steps')
        require_range('num_target', num_target, 1, 2**31, 'the target needs a row')
        if not 0 < trust <= 1:
            raise ValueError(f'trust = {trust} must be above 0 and at most 1.')
        for name, share in dict(instance_weight=instance_weight, propagation=propagation).items():
            if not 0 <= share <= 1:
                raise ValueError(f'{name} = {share} must be within 0 to 1.')
        self.temperature = temperature
        self.key_temperature = key_temperature
        self.instance_weight = instance_weight
        self.propagation = propagation
        self.hops = hops
        self.branches = branches
        self.restart = restart
        self.edges = edges
        self.trust = trust
        self.num_target = num_target
        self.num_background = num_background
        self.ramp = 1.0

    def forward(self, query: Tensor, anchor: Tensor, memory: GraphMemory) -> dict[str, Tensor]:
        """Compute the losses of a batch and hand the neighbours of the keys to the memory.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            anchor (Tensor): int64, shape ``(B,)``, the memory's rows of these images, which hold
                the keys.
            memory (GraphMemory): The rows and the graph.

        Returns:
            dict[str, Tensor]: ``loss_soft`` and, to be logged, ``walked``, the mean
            share of the images that the walk can leave.
        """
        key = memory.bank[anchor].float()
        width = max(self.num_background or 0, self.num_target, memory.num_neighbours) + 1
        similarity, index = memory.search(key, width)
        others = similarity.masked_fill(index == anchor[:, None], -torch.inf)
        near, column = others.topk(min(self.num_target, index.size(1) - 1), dim=1)
        near_index = index.gather(1, column)
        first = near_index[:, : memory.num_neighbours]
        memory.stage(anchor, key, first)

        flat = (near / self.key_temperature).softmax(dim=1)
        rows, target, walked = self.propagate(memory, anchor, first, near_index, flat)
        background = None if self.num_background is None else index
        own, other = self.instance_weight, 1 - self.instance_weight
        loss = soft_cross_entropy(
            query,
            memory.bank,
            torch.cat([anchor[:, None], rows], dim=1),
            torch.cat([torch.full_like(flat[:, :1], own), other * target], dim=1),
            background,
            self.temperature,
        )
        return dict(loss_soft=loss.mean(), walked=walked)

    def propagate(
        self,
        memory: GraphMemory,
        anchor: Tensor,
        first: Tensor,
        index: Tensor,
        flat: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Correct the flat target by the walk: rows, probabilities, share of images walked from."""
        share = self.propagation * self.ramp
        if not share:
            return index, flat, flat.new_zeros(())
        rows, weight = soft_walk(
            memory.bank,
            memory.neighbours,
            anchor,
            self.hops,
            self.key_temperature,
            first=first,
            branches=self.branches,
            restart=self.restart,
            edges=self.edges,
            trust=self.trust,
        )
        total = weight.sum(dim=1, keepdim=True)
        target = torch.cat([flat * (1 - share * total), share * weight], dim=1)
        return torch.cat([index, rows], dim=1), target, (total > 0).float().mean()
