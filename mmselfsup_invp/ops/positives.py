"""Positives of a query, and the choice of those that enter the loss."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ..options import Choice, PositiveInt, check_option
from .search import default_elements


class Positives(NamedTuple):
    """Rows of the bank that are positives of each query.

    Attributes:
        index (Tensor): int64, shape ``(B, L)``, rows of the bank; 0 where the mask is False.
        mask (Tensor): bool, shape ``(B, L)``, which entries are positives.
    """

    index: Tensor  # type: ignore[assignment]  # Hides tuple.index.
    mask: Tensor


def _lowest(similarity: Tensor, mask: Tensor, count: int, _: torch.Generator | None) -> Tensor:
    return similarity.masked_fill(~mask, torch.inf).topk(count, 1, largest=False, sorted=False)[1]


def _highest(similarity: Tensor, mask: Tensor, count: int, _: torch.Generator | None) -> Tensor:
    return similarity.masked_fill(~mask, -torch.inf).topk(count, dim=1, sorted=False)[1]


def _uniform(
    similarity: Tensor, mask: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    key = torch.rand(similarity.shape, generator=generator, device=similarity.device)
    return key.masked_fill(~mask, -1).topk(count, dim=1, sorted=False)[1]


# How the positives that enter the loss are chosen from N(i); 'all' needs no choice.
POSITIVE_SELECTORS: dict[str, Callable[..., Tensor]] = {
    'hard': _lowest,
    'easy': _highest,
    'random': _uniform,
}
HardPositives = Annotated[str, Choice((*POSITIVE_SELECTORS, 'all'))]


@torch.no_grad()
def select_positives(
    similarity: Tensor,
    mask: Tensor,
    num: int,
    hard: str = 'hard',
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the positives of the propagation loss: N^h(i) of the InvP paper (section 3.2).

    Args:
        similarity (Tensor): Float, shape ``(B, L)``, of each query with its positives.
        mask (Tensor): bool, shape ``(B, L)``, which entries are positives.
        num (int): P, positives to choose. A row with fewer positives keeps all of them.
        hard (str): ``'hard'`` takes the lowest similarities (the paper), ``'easy'`` the
            highest (the ablation of the official code), ``'random'`` a uniform draw without
            replacement, ``'all'`` every positive (the ablation as the paper's text describes
            it). Defaults to ``'hard'``.
        generator (torch.Generator, optional): For ``'random'``, on the device of
            ``similarity``. Defaults to None, the global generator.

    Returns:
        Tensor: Column index, int64, shape ``(B, min(num, L))``, or ``(B, L)`` for ``'all'``.
        A row with fewer than ``num`` positives also contains masked columns; gather ``mask``
        at these columns to tell them apart.
    """
    check_option('select_positives', 'hard', hard, HardPositives)
    if hard == 'all':
        return torch.arange(mask.size(1), device=mask.device).expand(mask.shape)
    check_option('select_positives', 'num', num, PositiveInt)
    count = min(num, mask.size(1))
    return POSITIVE_SELECTORS[hard](similarity.detach(), mask, count, generator)


@torch.no_grad()
def contains(members: Tensor, mask: Tensor, index: Tensor, *, size: int | None = None) -> Tensor:
    """Which entries of ``index`` ``(B, M)`` are among the ``members`` ``(B, L)`` of their row.

    Only members with a True ``mask`` count; ``size`` is the exclusive upper bound of all values.
    The result is bool, ``(B, M)``. The CPU marks the members in a table of ``size`` flags per row,
    for a few rows at a time, so that the extra memory is bounded by 2**21 bytes or one row of the
    table. This is much faster there than a binary search among the sorted members. Other devices
    use the binary search, because the tables of a large bank would leave room for a few rows per
    kernel only.
    """
    contained = _marked if index.device.type == 'cpu' else _binary_searched
    return contained(members, mask, index, size)


def _binary_searched(members: Tensor, mask: Tensor, index: Tensor, _: int | None) -> Tensor:
    ordered = members.masked_fill(~mask, -1).sort(dim=1).values
    # Beyond the last member an index is compared with the last, from which it differs.
    place = torch.searchsorted(ordered, index.contiguous()).clamp_(max=members.size(1) - 1)
    return ordered.gather(1, place) == index


def _marked(members: Tensor, mask: Tensor, index: Tensor, size: int | None) -> Tensor:
    if size is None:
        size = max((int(part.max()) + 1 for part in (members, index) if part.numel()), default=0)
    found = torch.empty_like(index, dtype=torch.bool)
    rows = max(min(default_elements(index.device) // (size + 1), len(index)), 1)
    # Masked members mark an additional last column, which no index reads.
    marked = mask.new_zeros((rows, size + 1))
    members = members.masked_fill(~mask, size)
    for start in range(0, len(index), rows):
        part = slice(start, start + rows)
        table = marked[: len(index[part])]
        table.scatter_(1, members[part], True)
        torch.gather(table, 1, index[part], out=found[part])
        table.scatter_(1, members[part], False)
    return found
