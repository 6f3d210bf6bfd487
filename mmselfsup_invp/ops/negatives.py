"""Positives and negatives of InterCLR, drawn by the labels of clusters.

Labels are int64 and name one of fewer clusters than there are rows in the bank.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import require_choice, require_features, require_range
from .clustering import cluster_sizes
from .search import default_elements, nearest_first, top_m

# Stands where a query has no negative at all: every row of the bank has its label.
NO_NEGATIVE = -1


# Similarities, where they are known, and rows of the bank in order, ``(B, width)`` each.
Ordered = tuple[Tensor | None, Tensor]


@dataclass
class _Candidates:
    """The queries, and the bank of whose rows those with another label are candidates."""

    query: Tensor
    bank: Tensor
    label: Tensor
    own_label: Tensor

    def nearest(self, width: int, pool: Tensor, _: torch.Generator | None) -> Ordered:
        return self._search(self.query, width, pool)

    def farthest(self, width: int, pool: Tensor, _: torch.Generator | None) -> Ordered:
        opposite, index = self._search(-self.query, width, pool)
        return opposite.neg_(), index

    def _search(self, query: Tensor, width: int, pool: Tensor) -> tuple[Tensor, Tensor]:
        labels = self.own_label, self.label
        return nearest_first(*top_m(query, self.bank, width, labels=labels, sort=False), pool)

    def shuffled(self, width: int, _: Tensor, generator: torch.Generator | None) -> Ordered:
        """A few queries at a time, lest a random number for each pair be held."""
        rows = max(default_elements(self.label.device) // len(self.label), 1)
        blocks = [
            _random_keys(own[:, None] != self.label, generator).topk(width, dim=1).indices
            for own in self.own_label.split(rows)
        ]
        return None, torch.cat(blocks)


Order = Callable[[_Candidates, int, Tensor, torch.Generator | None], Ordered]

# In which order the candidates of a query enter the pool; the first ones do.
ORDERS: dict[str, Order] = {
    'hard': _Candidates.nearest,
    'semi_hard': _Candidates.nearest,
    'random': _Candidates.shuffled,
    'semi_easy': _Candidates.farthest,
}
# Strategies that draw from a pool larger than what they need.
POOLED = ('semi_hard', 'semi_easy')


@torch.no_grad()
def sample_negatives(
    strategy: str,
    query: Tensor,
    bank: Tensor,
    labels: Tensor,
    anchor_label: Tensor,
    num: int,
    pool_ratio: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw negatives of each query among the rows of another cluster: S^n of InterCLR.

    Section 3.3 of `InterCLR <https://arxiv.org/abs/2008.11702>`_. The draw is without replacement
    from a pool: for ``'hard'`` the ``num`` nearest rows, for ``'semi_hard'`` the nearest
    ``pool_ratio`` of S^n, for ``'semi_easy'`` the farthest, for ``'random'`` all of S^n. A pool is
    never smaller than ``num`` while S^n has so many. Where it has fewer, all of it is the pool and
    the draw is with replacement.

    Same-cluster rows are masked before the pool is made, so that its size is right and no draw has
    to be repeated.

    Args:
        strategy (str): ``'hard'``, ``'semi_hard'``, ``'random'`` or ``'semi_easy'``.
        query (Tensor): Float, unit rows, shape ``(B, D)``.
        bank (Tensor): Float, unit rows, shape ``(N, D)``.
        labels (Tensor): int64, shape ``(N,)``, clusters of the rows, 0 to N - 1.
        anchor_label (Tensor): int64, shape ``(B,)``, clusters of the queries.
        num (int): K, negatives of each query.
        pool_ratio (float): Share of S^n in the pool of the semi strategies, above 0, at most 1.
            Defaults to 0.1 (the paper).
        generator (torch.Generator, optional): On the device of ``query``. Defaults to None, the
            global generator.

    Returns:
        Tensor: int64, shape ``(B, K)``. A query all of whose rows share its label has
        :data:`NO_NEGATIVE` everywhere.

    Raises:
        ValueError: If the strategy is unknown, or ``num`` or ``pool_ratio`` outside its range.

    Example:
        >>> bank, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
        >>> query = torch.tensor([[0.8, 0.0, 0.6, 0.0]])
        >>> sample_negatives('hard', query, bank, labels, torch.tensor([0]), num=1)
        tensor([[2]])
    """
    return draw_negatives(strategy, query, bank, labels, anchor_label, num, pool_ratio, generator)[
        0
    ]


@torch.no_grad()
def draw_negatives(
    strategy: str,
    query: Tensor,
    bank: Tensor,
    labels: Tensor,
    anchor_label: Tensor,
    num: int,
    pool_ratio: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Do as :func:`sample_negatives`, and tell the similarities that the search came by.

    Args:
        strategy (str): ``'hard'``, ``'semi_hard'``, ``'random'`` or ``'semi_easy'``.
        query (Tensor): Float, shape ``(B, D)``.
        bank (Tensor): Float, shape ``(N, D)``.
        labels (Tensor): int64, shape ``(N,)``, the cluster of each row.
        anchor_label (Tensor): int64, shape ``(B,)``, that of each query.
        num (int): K, negatives of each query.
        pool_ratio (float): Share of the other clusters' rows in a pool. Defaults to 0.1.
        generator (torch.Generator, optional): On the device of ``query``. Defaults to None.

    Returns:
        tuple[Tensor, Tensor | None]: The rows, int64, and the similarities of the queries with
        them, float32, both ``(B, K)``; None for ``'random'``, which does not search. They save
        :func:`bank_similarity` from reading the rows again.

    Example:
        >>> bank, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
        >>> query = torch.tensor([[0.8, 0.0, 0.6, 0.0]])
        >>> draw_negatives('hard', query, bank, labels, torch.tensor([0]), num=1)
        (tensor([[2]]), tensor([[0.6000]]))
    """
    require_choice('strategy', strategy, ORDERS)
    require_features('bank', bank)
    require_features('query', query, bank.size(1))
    require_range('num', num, 1, 2**31, 'the loss needs a negative')
    if not 0 < pool_ratio <= 1:
        raise ValueError(f'pool_ratio = {pool_ratio} must be above 0 and at most 1.')
    # There are no more clusters than rows, and to look up how many would make the device wait.
    size = cluster_sizes(labels, len(labels))[anchor_label]
    count = len(bank) - size[:, None]
    share = pool_ratio if strategy in POOLED else 0.0
    pool = torch.maximum(count.clamp(max=num), _rounded_up(count * share))
    width = min(max(num, math.ceil(len(bank) * share)), len(bank))
    candidates = _Candidates(query, bank, labels, anchor_label)
    similarity, index = ORDERS[strategy](candidates, width, pool.squeeze(1), generator)
    column = _draw_columns(pool, count >= num, width, num, generator, pooled=share > 0)
    index = index.gather(1, column).masked_fill_(count == 0, NO_NEGATIVE)
    if similarity is not None:
        similarity = similarity.gather(1, column).masked_fill_(count == 0, 0)
    return index, similarity


def _rounded_up(share: Tensor) -> Tensor:
    # 0.1 * 70 is a hair above 7.
    return (share.double() - 1e-6).ceil().long()


def _draw_columns(
    pool: Tensor, enough: Tensor, width: int, num: int, generator: torch.Generator | None,
    *, pooled: bool,
) -> Tensor:  # fmt: skip
    """``num`` of the first ``pool`` columns of each row: different ones where there are enough."""
    key = torch.rand((len(pool), max(width, num)), generator=generator, device=pool.device)
    repeated = _scaled(key[:, :num], pool)
    if width < num:
        return repeated
    distinct = torch.arange(width, device=pool.device)
    if pooled:
        key.masked_fill_(distinct >= pool, -1)
        distinct = key.topk(num, dim=1, sorted=False).indices
    return torch.where(enough, distinct[..., :num], repeated)


def _random_keys(allowed: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform random numbers; -1 where they are not allowed, so that these rank last."""
    key = torch.rand(allowed.shape, generator=generator, device=allowed.device)
    return key.masked_fill_(~allowed, -1)


@torch.no_grad()
def sample_positive(
    labels: Tensor,
    anchor_label: Tensor,
    anchor: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one row of the bank from each query's cluster: S^p of InterCLR (section 3.3).

    Args:
        labels (Tensor): int64, shape ``(N,)``, clusters of the rows, 0 to N - 1.
        anchor_label (Tensor): int64, shape ``(B,)``, clusters of the queries.
        anchor (Tensor, optional): int64, shape ``(B,)``, rows of the queries themselves, not to
            be drawn unless they are alone in their cluster. Defaults to None: they may be, as
            in the paper.
        generator (torch.Generator, optional): On the device of ``labels``.

    Returns:
        Tensor: int64, shape ``(B,)``. A query of an empty cluster gets any row.

    Example:
        >>> labels = torch.tensor([0, 1, 1])
        >>> sample_positive(labels, torch.tensor([1]), anchor=torch.tensor([1]))
        tensor([2])
    """
    # Numbers of 32 bits take a GPU half of the passes.
    anchor_label = anchor_label.int()
    ordered, row = labels.int().sort(stable=True)
    first = torch.searchsorted(ordered, anchor_label)
    last = torch.searchsorted(ordered, anchor_label, right=True) - 1
    places = (last - first + (anchor is None)).clamp(min=1)
    place = first + _below(places, generator)
    drawn = row[place.clamp(max=len(row) - 1)]
    if anchor is None:
        return drawn
    # The last of the cluster was left out of the draw; it stands in for the own row.
    return torch.where(drawn == anchor, row[last.clamp(min=0)], drawn)


@torch.no_grad()
def sample_uniform_negatives(
    anchor: Tensor, length: int, num: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw rows of a bank other than each query's own, uniformly and with replacement.

    The negatives of the intra-image branch of InterCLR (section 3.1), as NPID draws them.

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
    return _scaled(torch.rand(shape, generator=generator, device=limit.device), limit)


def _scaled(draw: Tensor, limit: Tensor) -> Tensor:
    """Integers below ``limit`` from numbers in [0, 1); rounding can lead up to the limit itself."""
    return torch.minimum((draw * limit).long(), limit - 1).clamp_(min=0)
