"""Positives and negatives of InterCLR, drawn by cluster labels.

Labels are int64, with values 0 to N - 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Choice, PositiveFraction, PositiveInt, check_option
from .checks import require_features, require_range
from .clustering import cluster_sizes
from .search import BankRows, Neighbours, default_elements, highest_columns, nearest_first, top_m
from .similarity import bank_similarity

# Index of the negatives of a query that has none: every row of the bank has its label.
NO_NEGATIVE = -1


@dataclass
class _Candidates:
    """Queries and bank; the candidates of a query are the rows with another label."""

    query: Tensor
    bank: Tensor | BankRows
    label: Tensor
    query_label: Tensor

    def nearest(self, width: int, pool: Tensor, _: torch.Generator | None) -> Neighbours:
        """The ``width`` nearest candidates, the ``pool`` nearest first."""
        return self._search(self.query, width, pool)

    def farthest(self, width: int, pool: Tensor, _: torch.Generator | None) -> Neighbours:
        """The ``width`` farthest candidates, the ``pool`` farthest first."""
        similarity, index = self._search(-self.query, width, pool)
        return Neighbours(similarity.neg_(), index)

    def _search(self, query: Tensor, width: int, pool: Tensor) -> Neighbours:
        labels = self.query_label, self.label
        return nearest_first(*top_m(query, self.bank, width, labels=labels, sort=False), pool)

    def drawn(self, width: int, pool: Tensor, generator: torch.Generator | None) -> Neighbours:
        """``width`` random candidates, followed by other rows if they are fewer."""
        # In blocks of queries, to bound the memory of one random number per query and row.
        rows = max(default_elements(self.label.device) // len(self.label), 1)
        index = torch.cat(
            [
                _draw(own[:, None] != self.label, width, count, generator)
                for own, count in zip(self.query_label.split(rows), pool.split(rows), strict=True)
            ]
        )
        return Neighbours(bank_similarity(self.query, self.bank, index), index)


Order = Callable[[_Candidates, int, Tensor, torch.Generator | None], Neighbours]

# The order of the candidates of a query, of which the first ones form the pool.
ORDERS: dict[str, Order] = {
    'hard': _Candidates.nearest,
    'semi_hard': _Candidates.nearest,
    'random': _Candidates.drawn,
    'semi_easy': _Candidates.farthest,
}
Strategy = Annotated[str, Choice(ORDERS)]
# Strategies with a pool of a share of the candidates.
POOLED = ('semi_hard', 'semi_easy')


@torch.no_grad()
def sample_negatives(
    strategy: str,
    query: Tensor,
    bank: Tensor | BankRows,
    labels: Tensor,
    anchor_label: Tensor,
    num: int,
    pool_ratio: float = 0.1,
    generator: torch.Generator | None = None,
) -> Neighbours:
    """Draw negatives of each query from the rows of other clusters: S^n of InterCLR.

    Sampling strategies of `InterCLR <https://arxiv.org/abs/2008.11702>`_. Negatives are drawn
    without replacement from a pool: the ``num`` nearest rows of S^n (``'hard'``), its nearest
    ``pool_ratio`` (``'semi_hard'``), its farthest ``pool_ratio`` (``'semi_easy'``), or all of it
    (``'random'``). A pool has at least ``num`` rows if S^n has. If S^n has fewer, the pool is all
    of S^n and the draw is with replacement.

    Rows of the own cluster are masked before the pool is formed, so that its size is exact and no
    draw is rejected.

    Args:
        strategy (str): ``'hard'``, ``'semi_hard'``, ``'random'`` or ``'semi_easy'``.
        query (Tensor): Float, unit rows, shape ``(B, D)``.
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``.
        labels (Tensor): int64, shape ``(N,)``, clusters of the rows, 0 to N - 1.
        anchor_label (Tensor): int64, shape ``(B,)``, clusters of the queries.
        num (int): K, negatives of each query.
        pool_ratio (float): Share of S^n in the pool of the semi strategies, above 0, at most 1.
            Defaults to 0.1 (the paper).
        generator (torch.Generator, optional): On the device of ``query``. Defaults to None, the
            global generator.

    Returns:
        Neighbours: Similarities, float32, and rows, int64, both ``(B, K)``, in no particular
        order. A query without any
        row of another cluster has :data:`NO_NEGATIVE` and similarity 0 everywhere. Pass the
        similarities to :func:`bank_similarity` as ``known`` to give them a gradient.

    Raises:
        ValueError: If the strategy is unknown, or ``num`` or ``pool_ratio`` outside its range.

    Example:
        >>> bank, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
        >>> query = torch.tensor([[0.8, 0.0, 0.6, 0.0]])
        >>> sample_negatives('hard', query, bank, labels, torch.tensor([0]), num=1)
        Neighbours(similarity=tensor([[0.6000]]), index=tensor([[2]]))
    """
    require_features('bank', bank)
    require_features('query', query, bank.size(1))
    check_option('sample_negatives', 'strategy', strategy, Strategy)
    check_option('sample_negatives', 'num', num, PositiveInt)
    check_option('sample_negatives', 'pool_ratio', pool_ratio, PositiveFraction)
    # N bounds the number of clusters; counting them would synchronise with the device.
    size = cluster_sizes(labels, len(labels))[anchor_label]
    count = len(bank) - size[:, None]
    share = pool_ratio if strategy in POOLED else 0.0
    pool = torch.maximum(count.clamp(max=num), _rounded_up(count.double() * share))
    width = min(max(num, math.ceil(len(bank) * share)), len(bank))
    candidates = _Candidates(query, bank, labels, anchor_label)
    similarity, index = ORDERS[strategy](candidates, width, pool.squeeze(1), generator)
    column = _draw_columns(pool, count >= num, width, num, generator, pooled=share > 0)
    return Neighbours(
        similarity.gather(1, column).masked_fill_(count == 0, 0),
        index.gather(1, column).masked_fill_(count == 0, NO_NEGATIVE),
    )


def _rounded_up(share: Tensor) -> Tensor:
    # 0.1 * 70 is slightly above 7 in floating point.
    return (share - 1e-6).ceil().long()


def _draw_columns(
    pool: Tensor, enough: Tensor, width: int, num: int, generator: torch.Generator | None,
    *, pooled: bool,
) -> Tensor:  # fmt: skip
    """Draw ``num`` of the first ``pool`` columns of each row; distinct ones if there are enough."""
    key = torch.rand((len(pool), max(width, num)), generator=generator, device=pool.device)
    repeated = (key[:, :num] * pool).long()
    if width < num:
        return repeated
    distinct = torch.arange(width, device=pool.device)
    if pooled:
        distinct = highest_columns(key.masked_fill_(distinct >= pool, -1), num)
    return torch.where(enough, distinct[..., :num], repeated)


def _draw(allowed: Tensor, width: int, count: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw ``width`` columns of each row, of which the first ``count`` are allowed ones."""
    key = torch.rand(allowed.shape, generator=generator, device=allowed.device)
    column = highest_columns(key.masked_fill_(~allowed, -1), width)
    return nearest_first(allowed.gather(1, column).float(), column, count).index


@torch.no_grad()
def sample_positive(
    labels: Tensor,
    anchor_label: Tensor,
    anchor: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one row of the bank from each query's cluster: S^p of InterCLR.

    See `InterCLR <https://arxiv.org/abs/2008.11702>`_.

    Args:
        labels (Tensor): int64, shape ``(N,)``, clusters of the rows, 0 to N - 1.
        anchor_label (Tensor): int64, shape ``(B,)``, clusters of the queries.
        anchor (Tensor, optional): int64, shape ``(B,)``, rows of the queries themselves, which
            are then drawn only if they are alone in their cluster. Defaults to None: own rows
            are drawn as any other, as in the paper.
        generator (torch.Generator, optional): On the device of ``labels``.

    Returns:
        Tensor: int64, shape ``(B,)``. A query of an empty cluster gets an arbitrary row.

    Example:
        >>> labels = torch.tensor([0, 1, 1])
        >>> sample_positive(labels, torch.tensor([1]), anchor=torch.tensor([1]))
        tensor([2])
    """
    ordered, row = _sorted_members(labels, anchor_label)
    anchor_label = anchor_label.int()
    first = torch.searchsorted(ordered, anchor_label)
    last = torch.searchsorted(ordered, anchor_label, right=True) - 1
    places = (last - first + (anchor is None)).clamp(min=1)
    place = first + _below(places, generator)
    drawn = row[place.clamp(max=len(row) - 1)]
    if anchor is None:
        return drawn
    # The last row of the cluster was not among those drawn from; it replaces the own row.
    return torch.where(drawn == anchor, row[last.clamp(min=0)], drawn)


def _sorts_members_alone(device: torch.device) -> bool:
    """Whether to select the members before sorting, for which a GPU would have to synchronise."""
    return device.type == 'cpu'


def _sorted_members(labels: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Labels, int32, ascending, and rows of at least the members of the clusters ``wanted``."""
    if not _sorts_members_alone(labels.device):
        # A GPU sorts 32-bit integers in half the passes of 64-bit integers.
        return labels.int().sort(stable=True)
    is_wanted = torch.zeros(len(labels), dtype=torch.bool)
    is_wanted[wanted] = True
    row = is_wanted[labels].nonzero().squeeze(1)
    ordered, order = labels[row].int().sort(stable=True)
    # The last row stands for the clusters without members.
    return ordered, F.pad(row[order], (0, 1))


@torch.no_grad()
def sample_uniform_negatives(
    anchor: Tensor, length: int, num: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw rows of a bank other than each query's own, uniformly and with replacement.

    The negatives of NPID (`arXiv:1805.01978 <https://arxiv.org/abs/1805.01978>`_) and of the
    intra-image branch of InterCLR on a memory bank.

    Args:
        anchor (Tensor): int64, shape ``(B,)``, own rows.
        length (int): N, rows of the bank, at least 2.
        num (int): K, rows to draw for each query.
        generator (torch.Generator, optional): On the device of ``anchor``.

    Returns:
        Tensor: int64, shape ``(B, K)``.

    Raises:
        ValueError: If there is no other row.

    Example:
        >>> sample_uniform_negatives(torch.tensor([0, 1]), length=2, num=3)
        tensor([[1, 1, 1],
                [0, 0, 0]])
    """
    require_range('length', length, 2, 2**62, 'the bank needs another row to tell an image from')
    drawn = _below(torch.full_like(anchor, length - 1)[:, None], generator, num)
    return drawn + (drawn >= anchor[:, None])


def _below(limit: Tensor, generator: torch.Generator | None, num: int | None = None) -> Tensor:
    """Uniform random integers from 0 to below each ``limit``, int64."""
    shape = limit.shape if num is None else (len(limit), num)
    # float32 has 2**24 values in [0, 1), too few for the rows of a large bank.
    draw = torch.rand(shape, generator=generator, device=limit.device, dtype=torch.float64)
    return (draw * limit).long()
