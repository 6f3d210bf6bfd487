"""The objective of the released InvP code, re-implemented as the baseline of ``objective.py``.

All N similarities of a batch, their exponentials and the sorted top M are part of the autograd
graph, and each loss is a ratio of sums with 1e-7 added inside the logarithm. The only difference
to the release is the number of neighbours per row, which the release fixes at 4.
"""

import torch
from torch import Tensor

EPS = 1e-7


def propagate(neighbours: Tensor, anchor: Tensor, hops: int) -> Tensor:
    """List the end points of all walks of 1 to ``hops`` steps, repeats and anchor included."""
    nodes = neighbours[anchor]
    first = 0
    for _ in range(hops - 1):
        last = nodes.size(1)
        for column in range(first, last):
            nodes = torch.cat([nodes, neighbours[nodes[:, column]]], dim=1)
        first = last
    return nodes


def losses(
    query: Tensor,
    bank: Tensor,
    neighbours: Tensor,
    anchor: Tensor,
    *,
    temperature: float,
    num_background: int,
    num_hard: int,
    hops: int,
    hard: bool = True,
    exclusive: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return both losses, shape ``(B,)`` each, and the sorted top M of the bank, ``(B, M)``."""
    batch = torch.arange(len(query), device=query.device)
    exps = torch.exp(query @ bank.float().T / temperature)
    own = exps[batch, anchor]
    background, index = exps.topk(num_background, dim=1, sorted=True)
    total = background.sum(dim=1)
    instance = -(own / total + EPS).log()

    positive = exps.gather(1, propagate(neighbours, anchor, hops))
    chosen = positive.topk(min(num_hard, positive.size(1)), dim=1, largest=not hard)[0]
    rest = total - own if exclusive else total
    propagation = -(chosen.sum(dim=1) / rest + EPS).log()
    return instance, propagation, index


def refresh_neighbours(neighbours: Tensor, anchor: Tensor, index: Tensor) -> None:
    """Write the k nearest rows to the graph; the next one replaces the anchor."""
    k = neighbours.size(1)
    best = index[:, : k + 1]
    substitute = best[:, k:].expand_as(best)
    neighbours[anchor] = torch.where(best == anchor[:, None], substitute, best)[:, :k]


@torch.no_grad()
def update_bank(bank: Tensor, anchor: Tensor, query: Tensor, momentum: float = 0.5) -> None:
    """Move the rows of the batch to ``normalize(momentum * old + (1 - momentum) * query)``."""
    mixed = momentum * bank[anchor].float() + (1 - momentum) * query
    bank[anchor] = (mixed / mixed.square().sum(dim=1, keepdim=True).sqrt()).to(bank.dtype)
