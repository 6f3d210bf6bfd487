import torch
from mmengine.model import BaseModule
from torch import Tensor

from ...compat.host import MODELS
from ...ops.graph import Edges, Hops
from ...ops.positives import contains
from ...ops.soft_propagation import WalkOptions, soft_cross_entropy, soft_walk
from ...options import (
    Fraction,
    InitCfg,
    PositiveFraction,
    PositiveInt,
    Temperature,
    checked,
)
from ..memories import GraphMemory


@MODELS.register_module()
@checked
class SoftInvPHead(BaseModule):
    """Cross entropy of the query with a soft target that the kNN graph of the keys gives.

    ``L = a * L_ins + (1 - a) * L_soft``. ``L_ins`` is the cross entropy of the query with the row
    of its own image, ``L_soft`` that with a distribution q over other rows::

        q = relation + b * omega(t) * (walk - |walk| * relation)

    ``relation`` is the softmax of the key over its nearest rows, the target of `SCE
    <https://arxiv.org/abs/2111.14585>`_. ``walk`` is the distribution of the end of a random walk
    on the kNN graph, see :func:`~mmselfsup_invp.ops.soft_propagation.soft_walk`. The sum ``|walk|``
    of its weights is 0 for an image without a trusted edge: such an image keeps the relation as its
    target.

    Args:
        temperature (float): Of the query's softmax. Defaults to 0.07.
        key_temperature (float): Of the key's softmax and of the edges; the lower, the sharper.
            Defaults to 0.05.
        instance_weight (float): a, 0 to 1. Defaults to 0.5.
        propagation (float): b, 0 to 1, weight of the walk in the target; 0 turns the graph off.
            Defaults to 0.5.
        hops, branches, restart, edges, trust: See
            :class:`~mmselfsup_invp.ops.soft_propagation.WalkOptions`.
        num_target (int): Nearest rows of the key that the relation names. Defaults to 256.
        num_background (int, optional): Nearest rows of the key that the softmax of the query runs
            over, at least those of the relation and of the graph; None for all rows. Defaults to
            4096.
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        ramp (float): omega(t), set by the hook at the start of every epoch. 1 until it is set.
    """

    needs_keys = True

    def __init__(
        self,
        temperature: Temperature = 0.07,
        key_temperature: Temperature = 0.05,
        instance_weight: Fraction = 0.5,
        propagation: Fraction = 0.5,
        hops: Hops = 2,
        branches: PositiveInt = 5,
        restart: Fraction = 0.5,
        edges: Edges = 'all',
        trust: PositiveFraction = 0.1,
        num_target: PositiveInt = 256,
        num_background: PositiveInt | None = 4096,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.walk = WalkOptions(hops, key_temperature, branches, restart, edges, trust)
        self.temperature = temperature
        self.key_temperature = key_temperature
        self.instance_weight = instance_weight
        self.propagation = propagation
        self.hops = hops
        self.num_target = num_target
        self.num_background = num_background
        self.ramp = 1.0

    def forward(self, query: Tensor, anchor: Tensor, memory: GraphMemory) -> dict[str, Tensor]:
        """Compute the loss of a batch and stage the neighbours of the keys in the memory.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            anchor (Tensor): int64, shape ``(B,)``, the memory's rows of these images, which hold
                the keys.
            memory (GraphMemory): The rows and the graph.

        Returns:
            dict[str, Tensor]: ``loss_soft`` and, for the log, ``walked``, the share of the images
            that the walk can leave.
        """
        key = memory.bank[anchor].float()
        width = max(self.num_background or 0, self.num_target, memory.num_neighbours)
        others = memory.search(key, width, exclude=anchor)
        similarity, near = others.top(max(self.num_target, memory.num_neighbours))
        memory.stage(anchor, key, near[:, : memory.num_neighbours])

        background = None
        if self.num_background is not None:
            background = torch.cat([anchor[:, None], others.index], dim=1)
        relation = (similarity[:, : self.num_target] / self.key_temperature).softmax(dim=1)
        rows, target, walked = self.corrected_target(memory, anchor, near, relation, background)
        own = torch.full_like(relation[:, :1], self.instance_weight)
        loss = soft_cross_entropy(
            query,
            memory.bank,
            torch.cat([anchor[:, None], rows], dim=1),
            torch.cat([own, (1 - self.instance_weight) * target], dim=1),
            background,
            self.temperature,
        )
        return dict(loss_soft=loss.mean(), walked=walked)

    def corrected_target(
        self,
        memory: GraphMemory,
        anchor: Tensor,
        near: Tensor,
        relation: Tensor,
        background: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Correct the relation, the probabilities of the first rows of ``near``, by the walk.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Rows and probabilities of the target, ``(B, T)`` each,
            and the share of the images that the walk can leave.
        """
        share = self.propagation * self.ramp
        named = near[:, : relation.size(1)]
        if not share:
            return named, relation, relation.new_zeros(())
        first = near[:, : memory.num_neighbours]
        rows, weight = soft_walk(memory.bank, memory.neighbours, anchor, self.walk, first)
        if background is not None:
            every = torch.ones_like(background, dtype=torch.bool)
            weight = weight * contains(background, every, rows, size=len(memory))
        total = weight.sum(dim=1, keepdim=True)
        target = torch.cat([relation * (1 - share * total), share * weight], dim=1)
        return torch.cat([named, rows], dim=1), target, (total > 0).float().mean()
