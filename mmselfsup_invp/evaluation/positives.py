"""Positives of one image on a kNN graph, hop by hop."""

import torch
from torch import Tensor

from ..ops import propagate
from ..ops.checks import require_range


@torch.no_grad()
def neighbours_by_hop(neighbours: Tensor, anchor: int, hops: int) -> list[Tensor]:
    """The images at a distance of 1, 2, ... ``hops`` steps on the graph.

    Args:
        neighbours (Tensor): int64, shape ``(N, k)``, the graph; -1 for no edge.
        anchor (int): Row i to start from.
        hops (int): l, the number of steps.

    Returns:
        list[Tensor]: For each distance the rows, int64, ascending; their union is N(i).

    Example:
        >>> chain = torch.tensor([[1], [2], [0]])
        >>> [rows.tolist() for rows in neighbours_by_hop(chain, anchor=0, hops=3)]
        [[1], [2], []]
    """
    rows = len(neighbours)
    require_range('anchor', anchor, 0, rows - 1, f'the graph has {rows} rows')
    start = torch.tensor([anchor], device=neighbours.device)
    found, seen = [], start
    for hop in range(1, hops + 1):
        index, mask = propagate(neighbours, start, hop)
        reached = index[mask]
        found.append(reached[~torch.isin(reached, seen)])
        seen = torch.cat([seen, reached])
    return found
