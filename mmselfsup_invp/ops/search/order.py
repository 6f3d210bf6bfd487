"""Puts the rows that a search has found in order: in C on the CPU, in PyTorch elsewhere."""

import torch
from torch import Tensor

from . import native
from .request import Neighbours

# Fewer columns than this PyTorch sorts as fast.
MIN_COLUMNS = 128


def sort_descending(found: Neighbours) -> Neighbours:
    """Sort the rows of each query by descending similarity, NaN first."""
    if found.similarity.size(1) >= MIN_COLUMNS and _in_c(found.similarity):
        return native.sort_descending(found)
    similarity, order = found.similarity.sort(dim=1, descending=True)
    return Neighbours(similarity, found.index.gather(1, order))


def least_similar_last(found: Neighbours) -> Neighbours:
    """Exchange the least similar row of each query with its last, in place."""
    column = found.similarity.argmin(dim=1, keepdim=True)
    for values in found:
        last = values[:, -1:].clone()
        values[:, -1:] = values.gather(1, column)
        values.scatter_(1, column, last)
    return found


def nearest_first(similarity: Tensor, index: Tensor, num: Tensor) -> Neighbours:
    """Put the ``num`` most similar rows of each query first, in any order; the rest is undefined.

    The similarities must not be NaN; ``num`` is int64 of shape ``(B,)``.
    """
    if not _in_c(similarity):
        return sort_descending(Neighbours(similarity, index))
    count = torch.full_like(num, similarity.size(1))
    candidates = native.Candidates(similarity.contiguous().clone(), index.int().contiguous(), count)
    native.select_highest(candidates, num)
    return Neighbours(candidates.value, candidates.index.long())


def _in_c(similarity: Tensor) -> bool:
    return similarity.device.type == 'cpu' and native.available()
