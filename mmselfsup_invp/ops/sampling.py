"""Which of the positives and of the background enter the loss."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import require_choice, require_range
from .search import default_elements


def _lowest(similarity: Tensor, mask: Tensor, count: int, _: torch.Generator | None) -> Tensor:
    return similarity.masked_fill(~mask, torch.inf).topk(count, 1, largest=False, sorted=False)[1]


def _highest(similarity: Tensor, mask: Tensor, count: int, _: torch.Generator | None) -> Tensor:
    return similarity.masked_fill(~mask, -torch.inf).topk(count, dim=1, sorted=False)[1]


def _uniform(
    similarity: Tensor, mask: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    draw = torch.rand(similarity.shape, generator=generator, device=similarity.device)
    return draw.masked_fill(~mask, -1).topk(count, dim=1, sorted=False)[1]


# How the positives that enter the loss are chosen from N(i); 'all' needs no choice.
POSITIVE_SELECTORS: dict[str, Callable[..., Tensor]] = {
    'hard': _lowest,
    'easy': _highest,
    'random': _uniform,
}


@torch.no_grad()
def select_positives(
    similarity: Tensor,
    mask: Tensor,
    num: int,
    hard: str = 'hard',
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the positives of the propagation loss: N^h(i) of the InvP paper (section 3.3).

    Args:
        similarity (Tensor): Float, shape ``(B, L)``, of each query with its positives.
        mask (Tensor): bool, shape ``(B, L)``, which entries are positives.
        num (int): P, positives to choose; a row with fewer gives all it has.
        hard (str): ``'hard'`` takes the lowest similarities (the paper), ``'easy'`` the
            highest (the official ablation), ``'random'`` a uniform draw without replacement,
            ``'all'`` every positive (the reading of the paper's text for the ablation).
        generator (torch.Generator, optional): For ``'random'``, on the device of
            ``similarity``. Defaults to None, the global generator.

    Returns:
        Tensor: Column index, int64, shape ``(B, min(num, L))`` (``(B, L)`` for ``'all'``).
        A row with fewer positives also holds masked columns; look them up in ``mask``.

    Raises:
        ValueError: If ``hard`` is unknown or ``num`` is below 1.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.1, 0.5]])
        >>> select_positives(similarity, torch.ones(1, 3, dtype=torch.bool), num=1).tolist()
        [[1]]
    """
    require_choice('hard', hard, (*POSITIVE_SELECTORS, 'all'))
    if hard == 'all':
        return torch.arange(mask.size(1), device=mask.device).expand(mask.shape)
    require_range('num_hard', num, 1, 2**31, 'the propagation loss needs a positive')
    count = min(num, mask.size(1))
    return POSITIVE_SELECTORS[hard](similarity.detach(), mask, count, generator)


@torch.no_grad()
def contains(members: Tensor, mask: Tensor, index: Tensor, *, size: int | None = None) -> Tensor:
    """Tell, row by row, which of ``index`` are among ``members``.

    The CPU ticks the members off in a table of ``size`` flags a row, a few rows at a time, so
    memory on top of the result is bounded by 2**21 bytes or one row of the table. It is much faster
    there than to look each index up among the sorted members, which other devices do: tables of a
    large bank would keep them busy a few rows at a time.

    Args:
        members (Tensor): int64, shape ``(B, L)``, not negative.
        mask (Tensor): bool, shape ``(B, L)``, which members count.
        index (Tensor): int64, shape ``(B, M)``, not negative.
        size (int, optional): Above all members and indices (the rows of the bank). Defaults to
            None, look it up.

    Returns:
        Tensor: bool, shape ``(B, M)``.

    Example:
        >>> contains(torch.tensor([[2, 5]]), torch.tensor([[True, False]]), torch.tensor([[5, 2]]))
        tensor([[False,  True]])
    """
    contained = _ticked_off if index.device.type == 'cpu' else _looked_up
    return contained(members, mask, index, size)


def _looked_up(members: Tensor, mask: Tensor, index: Tensor, _: int | None) -> Tensor:
    # The first of each row is no index, so that there is one that is not above any.
    ordered = F.pad(members.masked_fill(~mask, -1), (1, 0), value=-1).sort(dim=1).values
    place = torch.searchsorted(ordered, index.contiguous(), right=True) - 1
    return ordered.gather(1, place) == index


def _ticked_off(members: Tensor, mask: Tensor, index: Tensor, size: int | None) -> Tensor:
    if size is None:
        size = max((part.max().item() + 1 for part in (members, index) if part.numel()), default=0)
    found = torch.empty_like(index, dtype=torch.bool)
    rows = max(min(default_elements(index.device) // (size + 1), len(index)), 1)
    # Members that do not count go to a column of their own, behind the others.
    ticked = mask.new_zeros((rows, size + 1))
    members = members.masked_fill(~mask, size)
    for start in range(0, len(index), rows):
        part = slice(start, start + rows)
        table = ticked[: len(index[part])]
        table.scatter_(1, members[part], True)
        torch.gather(table, 1, index[part], out=found[part])
        table.scatter_(1, members[part], False)
    return found
