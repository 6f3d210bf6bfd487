"""Positives of one image on a kNN graph: easy and hard ones, and hop by hop."""

import torch
from torch import Tensor

from ..ops import propagate
from ..ops.checks import require_range


@torch.no_grad()
def rank_positives(
    features: Tensor, neighbours: Tensor, anchor: int, hops: int
) -> tuple[Tensor, Tensor]:
    """Positives N(i) of an image by similarity, easy ones first, hard ones last.

    Figure 2b of InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_): of the images that
    :func:`~mmselfsup_invp.ops.propagate` reaches from the anchor, the most similar are easy
    positives, the least similar hard ones.

    Args:
        features (Tensor): Float, unit rows, shape ``(N, D)``.
        neighbours (Tensor): int64, shape ``(N, k)``, the graph; -1 for no edge.
        anchor (int): Row i to start from.
        hops (int): l, the number of steps.

    Returns:
        tuple[Tensor, Tensor]: Row index, int64, and similarity to the anchor, float32, both of
        shape ``(|N(i)|,)``, in descending order of similarity.

    Example:
        >>> angle = torch.deg2rad(torch.tensor([0., 30., 60.]))
        >>> features = torch.stack([angle.cos(), angle.sin()], dim=1)
        >>> chain = torch.tensor([[1], [2], [1]])
        >>> rank_positives(features, chain, anchor=0, hops=2)
        (tensor([1, 2]), tensor([0.8660, 0.5000]))
    """
    index, mask = propagate(neighbours, _row(neighbours, anchor), hops)
    positives = index[mask]
    similarity = features[positives].float() @ features[anchor].float()
    similarity, order = similarity.sort(descending=True)
    return positives[order], similarity


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
    start = _row(neighbours, anchor)
    found, seen = [], start
    for hop in range(1, hops + 1):
        index, mask = propagate(neighbours, start, hop)
        reached = index[mask]
        found.append(reached[~torch.isin(reached, seen)])
        seen = torch.cat([seen, reached])
    return found


def _row(neighbours: Tensor, anchor: int) -> Tensor:
    rows = len(neighbours)
    require_range('anchor', anchor, 0, rows - 1, f'the graph has {rows} rows')
    return torch.tensor([anchor], device=neighbours.device)
