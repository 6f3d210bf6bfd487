"""The kNN graph over the bank, and the walk on it that finds category-level positives."""

import torch
from torch import Tensor

from .checks import require_choice, require_range
from .search import top_m

# A row of the graph that has never been filled holds this instead of neighbours.
UNFILLED = -1
# Walks from one anchor: more than these would need gigabytes for a batch.
MAX_WALKS = 2**20
# Which edges a walk may take.
EDGES = ('all', 'mutual')
# Rows of the bank searched at a time when the whole graph is built. A GPU reads the bank once for
# each block, which asks for wide ones; the wider, the smaller the sample that each row may have of
# the bank, and the more of it passes and has to be held.
GRAPH_BATCH = 1024


@torch.no_grad()
def knn_graph(
    bank: Tensor, k: int, *, max_elements: int | None = None, backend: str = 'auto'
) -> Tensor:
    """Link every row of the bank to its ``k`` nearest other rows.

    N_k(i) of the InvP paper (section 3.2): on unit vectors the Euclidean order of the paper is
    the order of the inner product. Built in blocks; an N x N matrix is never held.

    Args:
        bank (Tensor): Float, unit rows, shape ``(N, D)``.
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
    anchor = torch.arange(len(bank), device=bank.device)
    graph = torch.empty((len(bank), k), dtype=torch.int64, device=bank.device)
    for start in range(0, len(bank), GRAPH_BATCH):
        part = slice(start, start + GRAPH_BATCH)
        own = anchor[part]
        options = dict(exclude=own, max_elements=max_elements, backend=backend)
        graph[part] = top_m(bank[part], bank, k, **options)[1]
    return graph


def exclude_anchor(index: Tensor, anchor: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Turn a search result of ``m + 1`` columns into ``m`` columns without the anchor.

    The anchor's entry is overwritten by the last column, which is then dropped; a row that does
    not hold the anchor simply loses its last column. That is the replacement of the official
    code (METHODS: the substitute takes the anchor's place, so order is not kept).

    Args:
        index (Tensor): int64, shape ``(B, m + 1)``, the last column the farthest.
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
def link_back(neighbours: Tensor, source: Tensor, index: Tensor) -> Tensor:
    """Tell which edges are mutual: their end has the source among its own neighbours.

    Args:
        neighbours (Tensor): int64, shape ``(N, k)``; -1 marks an edge that does not exist.
        source (Tensor): int64, shape ``(B,)``, rows where the edges start.
        index (Tensor): int64, shape ``(B, F)``, where they end; -1 for no edge.

    Returns:
        Tensor: bool, shape ``(B, F)``.

    Example:
        >>> chain = torch.tensor([[1], [0], [1]])
        >>> link_back(chain, torch.tensor([0, 2]), torch.tensor([[1], [1]])).tolist()
        [[True], [False]]
    """
    linked = neighbours[index.clamp(min=0)] == source[:, None, None]
    return linked.any(dim=2) & (index >= 0)


@torch.no_grad()
def propagate(
    neighbours: Tensor, anchor: Tensor, hops: int, mode: str = 'set', edges: str = 'all'
) -> tuple[Tensor, Tensor]:
    """Walk the graph from each anchor: the positives N(i) of the InvP paper (section 3.2).

    ``mode='set'`` is the definition: every row other than the anchor within ``hops`` directed
    steps, once. ``mode='concat'`` is the list of the official code: the end points of all
    walks, in its order, with repeats and with the anchor where a walk returns to it. Rows of
    the graph that were never filled (-1) lead nowhere in either mode.

    Args:
        neighbours (Tensor): int64, shape ``(N, k)``; -1 marks an edge that does not exist.
        anchor (Tensor): int64, shape ``(B,)``, rows to start from.
        hops (int): Steps to walk, l in the paper, at least 1.
        mode (str): ``'set'`` or ``'concat'``. Defaults to ``'set'``.
        edges (str): ``'all'`` (the paper), or ``'mutual'``: the walk takes no edge whose end does
            not link back. Defaults to ``'all'``.

    Returns:
        tuple[Tensor, Tensor]: Row index, int64, and mask, bool, both ``(B, L)`` with
        ``L = k + k**2 + ... + k**hops``. Where the mask is False the index is 0. In
        ``'set'`` mode the valid indices of a row ascend and stand before the masked ones.

    Raises:
        ValueError: If ``hops`` is below 1, there are more than 2**20 walks from an anchor, or
            ``mode`` or ``edges`` is unknown.

    Example:
        >>> chain = torch.tensor([[1], [2], [3], [4], [5], [4]])
        >>> index, mask = propagate(chain, torch.tensor([0, 4]), hops=3)
        >>> [row[keep].tolist() for row, keep in zip(index, mask)]
        [[1, 2, 3], [5]]
    """
    require_range('hops', hops, 1, 16, 'the walk takes k ** hops steps')
    require_choice('mode', mode, ('set', 'concat'))
    require_choice('edges', edges, EDGES)
    width = neighbours.size(1)
    walks = sum(width**hop for hop in range(1, hops + 1))
    why = f'{hops} hops along {width} neighbours each; walk fewer hops, or keep fewer neighbours'
    require_range('walks', walks, 1, MAX_WALKS, why)
    reached = _walk(neighbours, anchor, hops, edges)
    if mode == 'set':
        reached = distinct_others(reached, anchor)
    mask = reached >= 0
    return reached.clamp(min=0), mask


def _walk(neighbours: Tensor, anchor: Tensor, hops: int, edges: str) -> Tensor:
    """End points of all walks of 1 to ``hops`` steps, shorter walks first, -1 for none."""
    frontier = _step(neighbours, anchor, edges)
    reached = [frontier]
    for _ in range(hops - 1):
        step = _step(neighbours, frontier.flatten(), edges).view(*frontier.shape, -1)
        frontier = torch.where(frontier[..., None] < 0, UNFILLED, step).flatten(1)
        reached.append(frontier)
    return torch.cat(reached, dim=1)


def _step(neighbours: Tensor, source: Tensor, edges: str) -> Tensor:
    """Where the edges from each row that may be taken lead, ``(B, k)``; -1 for the others."""
    source = source.clamp(min=0)
    index = neighbours[source]
    if edges == 'all':
        return index
    return index.masked_fill(~link_back(neighbours, source, index), UNFILLED)


def distinct_others(reached: Tensor, anchor: Tensor) -> Tensor:
    """Each row's values once, ascending, the anchor and gaps replaced by trailing -1."""
    beyond = torch.iinfo(reached.dtype).max
    drop = (reached < 0) | (reached == anchor[:, None])
    ordered = reached.masked_fill(drop, beyond).sort(dim=1).values
    repeat = torch.zeros_like(drop)
    repeat[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    ordered = ordered.masked_fill(repeat, beyond).sort(dim=1).values
    return ordered.masked_fill(ordered == beyond, UNFILLED)
