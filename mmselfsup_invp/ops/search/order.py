"""Orders the rows that a search has found: in C on the CPU, in PyTorch elsewhere."""

import torch
from torch import Tensor

from . import native
from .request import Neighbours

# Fewer columns than this PyTorch sorts as fast.
MIN_COLUMNS = 128
# So few of the highest values of a row are found by insertion.
FEW = 16


def sort_descending(found: Neighbours) -> Neighbours:
    """Sort the rows of each query by descending similarity, NaN first."""
    if found.similarity.size(1) >= MIN_COLUMNS and native.serves(found.similarity):
        return native.sort_descending(found)
    similarity, order = found.similarity.sort(dim=1, descending=True)
    return Neighbours(similarity, found.index.gather(1, order))


def nearest_few(found: Neighbours, num: int) -> Neighbours:
    """As :meth:`Neighbours.top`, faster on the CPU if ``num`` is small and no similarity is NaN."""
    num = min(num, found.similarity.size(1))
    if not 0 < num <= FEW or not native.serves(found.similarity):
        return found.top(num)
    similarity, column = native.highest_few(found.similarity, num)
    return Neighbours(similarity, found.index.gather(1, column))


def nearest_first(similarity: Tensor, index: Tensor, num: Tensor) -> Neighbours:
    """Put the ``num`` most similar rows of each query first, in any order; the rest is undefined.

    The similarities must not be NaN; ``num`` is int64 of shape ``(B,)``.
    """
    if native.serves(similarity):
        count = torch.full_like(num, similarity.size(1))
        copies = similarity.contiguous().clone(), index.int().contiguous()
        return native.select_highest(native.Candidates(*copies, count), num, similarity.size(1))
    first = _is_among_highest(similarity, num[:, None])
    place = torch.where(first, first.cumsum(1) - 1, num[:, None] + (~first).cumsum(1) - 1)
    parts = similarity, index
    return Neighbours(*(torch.empty_like(part).scatter_(1, place, part) for part in parts))


def highest_columns(values: Tensor, num: int) -> Tensor:
    """Return the columns of the ``num`` highest values of each row, in any order, int64.

    The values, contiguous and not NaN, may be overwritten.
    """
    if not native.serves(values):
        return values.topk(num, dim=1, sorted=False).indices
    column = torch.arange(values.size(1), dtype=torch.int32).repeat(len(values), 1)
    count = torch.full((len(values),), values.size(1))
    candidates = native.Candidates(values, column, count)
    return native.select_highest(candidates, torch.full_like(count, num), num).index


def _is_among_highest(values: Tensor, num: Tensor) -> Tensor:
    """Whether each value is among the ``num`` highest of its row, the first of equal ones.

    Finds the bits of each row's threshold from the highest to the lowest, without a sort and
    without a device synchronisation.
    """
    bits = values.view(torch.int32)
    # The bits of positive floats are in their order, those of negative ones in reverse.
    order = bits ^ (bits >> 31 & 2**31 - 1)
    threshold = torch.full_like(num, -(2**31))
    for bit in reversed(range(32)):
        enough = (order >= threshold + 2**bit).sum(dim=1, keepdim=True) >= num
        threshold = torch.add(threshold, enough, alpha=2**bit)
    above, equal = order > threshold, order == threshold
    missing = num - above.sum(dim=1, keepdim=True)
    return above | equal & (equal.cumsum(dim=1) <= missing)
