"""The kNN graph over the bank and the propagation along its edges that finds positives."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from ..options import Range, check_option
from .checks import require_range
from .positives import Positives
from .search import BankRows, Neighbours, nearest_few, top_m

# Entry of a graph row that has not been filled yet.
UNFILLED = -1
# Upper bound of the walks from one anchor; more would need gigabytes for a batch.
MAX_WALKS = 2**20
Hops = Annotated[int, Range(1, 16)]
Mode = Literal['set', 'concat']
# Edges that a walk may follow.
Edges = Literal['all', 'mutual']
# Rows of the bank per search while the whole graph is built. Larger blocks read the bank less
# often, but leave a smaller sample of the bank per row to estimate its threshold, so that more
# candidates pass it and have to be stored.
GRAPH_BATCH = 1024


@torch.no_grad()
def knn_graph(
    bank: Tensor | BankRows, k: int, *, max_elements: int | None = None, backend: str = 'auto'
) -> Tensor:
    """Link every row of the bank to its ``k`` nearest other rows.

    N_k(i) of the InvP paper (section 3.1). On unit vectors the Euclidean order of the paper is
    that of the inner product. The graph is built in blocks, without an N x N matrix.

    Args:
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``. Of rows that are split over
            processes each builds its own part of the graph.
        k (int): Neighbours a row, 1 to N - 1. The paper uses 4.
        max_elements (int, optional): Similarities held at a time, see :func:`top_m`.
        backend (str): How to search, see :func:`top_m`. Defaults to ``'auto'``.

    Returns:
        Tensor: int64, shape ``(N, k)``, nearest first, never the row itself.

    Raises:
        ValueError: If ``k`` is not within 1 to N - 1, or the backend cannot be used.

    Example:
        >>> angle = torch.deg2rad(torch.tensor([0., 10., 25.]))
        >>> knn_graph(torch.stack([angle.cos(), angle.sin()], dim=1), k=1).tolist()
        [[1], [0], [1]]
    """
    require_range('k', k, 1, len(bank) - 1, f'a bank of {len(bank)} rows has that many other rows')
    if isinstance(bank, BankRows):
        anchor = bank.anchors()
    else:
        anchor = torch.arange(len(bank), device=bank.device)
    graph = torch.empty((len(anchor), k), dtype=torch.int64, device=bank.device)
    for part, own in zip(graph.split(GRAPH_BATCH), anchor.split(GRAPH_BATCH), strict=True):
        part[:] = top_m(
            bank[own], bank, k, exclude=own, max_elements=max_elements, backend=backend
        ).index
    return graph


def exclude_anchor(index: Tensor, anchor: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Reduce a search result of ``m + 1`` columns to ``m`` columns without the anchor.

    The last column replaces the anchor's entry and is then dropped. A row without the anchor
    loses its last column. As in the official code, the order is not kept.

    Args:
        index (Tensor): int64, shape ``(B, m + 1)``, the farthest row in the last column.
        anchor (Tensor): int64, shape ``(B,)``, each query's own row.
        *others (Tensor): Further ``(B, m + 1)`` tensors to rearrange alike (similarities).

    Returns:
        tuple[Tensor, ...]: ``index`` and the others, each ``(B, m)``.

    Example:
        >>> exclude_anchor(torch.tensor([[7, 3, 9, 1, 5]]), torch.tensor([7]))[0].tolist()
        [[5, 3, 9, 1]]
    """
    is_anchor = index[:, :-1] == anchor[:, None]
    return tuple(torch.where(is_anchor, part[:, -1:], part[:, :-1]) for part in (index, *others))


@torch.no_grad()
def nearest_others(nearest: Neighbours, anchor: Tensor, num: int) -> Tensor:
    """The nearest rows other than the anchor, int64, ``(B, min(num, m - 1))``.

    ``nearest`` holds ``(B, m)`` rows in any order, from :func:`top_m`. The result has the order of
    the official code, see :func:`exclude_anchor`.
    """
    return exclude_anchor(nearest_few(nearest, num + 1).index, anchor)[0]


@torch.no_grad()
def mutual_edges(neighbours: Tensor | BankRows, source: Tensor, index: Tensor) -> Tensor:
    """Which edges are mutual, bool, ``(B, F)``: the end has the source among its own neighbours.

    Args:
        neighbours (Tensor | BankRows): int64, shape ``(N, k)``; -1 marks a missing edge.
        source (Tensor): int64, shape ``(B,)``, rows where the edges start.
        index (Tensor): int64, shape ``(B, F)``, where they end; -1 for a missing edge.
    """
    back = neighbours[index.clamp(min=0)] == source[:, None, None]
    return back.any(dim=2) & (index >= 0)


@torch.no_grad()
def propagate(
    neighbours: Tensor | BankRows, anchor: Tensor, hops: int, mode: str = 'set', edges: str = 'all'
) -> Positives:
    """Collect the positives N(i) of the InvP paper by propagation on the graph (section 3.1).

    ``mode='set'`` is the definition: every row other than the anchor within ``hops`` directed
    steps, once. ``mode='concat'`` is the list of the official code: the end points of all walks
    in its order, including repeats, and the anchor where a walk returns to it. Unfilled entries
    of the graph (-1) end a walk in either mode.

    Args:
        neighbours (Tensor | BankRows): int64, shape ``(N, k)``; -1 marks a missing edge.
        anchor (Tensor): int64, shape ``(B,)``, rows to start from.
        hops (int): l in the paper, the longest walk, at least 1.
        mode (str): ``'set'`` or ``'concat'``. Defaults to ``'set'``.
        edges (str): ``'all'`` (the paper), or ``'mutual'`` to skip the edges whose end does not
            link back. Defaults to ``'all'``.

    Returns:
        Positives: Row index, int64, and mask, bool, both ``(B, L)`` with
        ``L = k + k**2 + ... + k**hops``. The index is 0 where the mask is False. In ``'set'``
        mode the valid indices of a row are ascending and precede the masked ones.

    Raises:
        ValueError: If ``hops`` is below 1, there are more than 2**20 walks from an anchor, or
            ``mode`` or ``edges`` is unknown.

    Example:
        >>> chain = torch.tensor([[1], [2], [3], [4], [5], [4]])
        >>> index, mask = propagate(chain, torch.tensor([0, 4]), hops=3)
        >>> [row[keep].tolist() for row, keep in zip(index, mask)]
        [[1, 2, 3], [5]]
    """
    check_option('propagate', 'hops', hops, Hops)
    check_option('propagate', 'mode', mode, Mode)
    check_option('propagate', 'edges', edges, Edges)
    width = neighbours.size(1)
    walks = sum(width**hop for hop in range(1, hops + 1))
    why = f'{hops} hops along {width} neighbours each; reduce the hops or the neighbours per row'
    require_range('walks', walks, 1, MAX_WALKS, why)
    reached = _walk(neighbours, anchor, hops, edges)
    if mode == 'set':
        reached = _distinct_others(reached, anchor)
    mask = reached >= 0
    return Positives(reached.clamp(min=0), mask)


def _walk(neighbours: Tensor | BankRows, anchor: Tensor, hops: int, edges: str) -> Tensor:
    """End points of all walks of 1 to ``hops`` steps, shorter walks first; -1 where one ends."""
    frontier = _step(neighbours, anchor, edges)
    reached = [frontier]
    for _ in range(hops - 1):
        step = _step(neighbours, frontier.flatten(), edges).view(*frontier.shape, -1)
        frontier = step.masked_fill_(frontier[..., None] < 0, UNFILLED).flatten(1)
        reached.append(frontier)
    return torch.cat(reached, dim=1)


def _step(neighbours: Tensor | BankRows, source: Tensor, edges: str) -> Tensor:
    """Ends of the edges of each row, int64, ``(B, k)``; -1 for those that are skipped."""
    source = source.clamp(min=0)
    index = neighbours[source]
    if edges == 'all':
        return index
    return index.masked_fill(~mutual_edges(neighbours, source, index), UNFILLED)


def _distinct_others(reached: Tensor, anchor: Tensor) -> Tensor:
    """The distinct values of each row but the anchor, ascending, padded with -1 at the end."""
    beyond = torch.iinfo(reached.dtype).max
    drop = (reached < 0) | (reached == anchor[:, None])
    ordered = reached.masked_fill(drop, beyond).sort(dim=1).values
    ordered[:, 1:].masked_fill_(ordered[:, 1:] == ordered[:, :-1], beyond)
    ordered = ordered.sort(dim=1).values
    return ordered.masked_fill(ordered == beyond, UNFILLED)
