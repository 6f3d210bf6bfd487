"""Exact search in PyTorch, on any device: similarities block by block, ranked by ``topk``."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .products import disable_autocast, similarities
from .request import Neighbours, Request, concatenate
from .threshold import fallback_counter, plan_cpu, sample_threshold

# Blocks hold a multiple of this many queries, which suits the matrix product.
ROW_GROUP = 32
# Similarities in a block on the CPU, which stays in the caches, and the columns that make the
# threshold worth its overhead.
CACHED_ELEMENTS = 2**19
CACHED_COLUMNS = 2**10


def search(request: Request) -> Neighbours | None:
    """Search on the CPU in one pass; ``topk`` ranks only what passes a threshold, in any order.

    None where that is not worthwhile, or where a sample was misleading.
    """
    plan = plan_cpu(request) if request.bank.device.type == 'cpu' else None
    queries, limit = len(request.query), min(CACHED_ELEMENTS, request.max_elements)
    if plan is None or queries * CACHED_COLUMNS > limit:
        return None
    threshold = sample_threshold(request, plan)[:, None]
    similarity = torch.full((queries, plan.width), -torch.inf)
    index = torch.zeros_like(similarity, dtype=torch.int32)
    offset = torch.arange(queries) * plan.width
    count = torch.zeros_like(offset)
    columns = limit // queries
    for start in range(0, len(request.bank), columns):
        block = slice(start, start + columns)
        scores = _onednn_similarities(request.query, request.bank[block])
        request.mask(scores, block)
        passing = (scores >= threshold).flatten().nonzero().squeeze(1)
        first = torch.arange(queries + 1) * scores.size(1)
        edge = torch.searchsorted(passing, first)
        added = edge.diff()
        # The entries of a query follow those that it has from earlier blocks.
        place = (offset + count - edge[:-1]).repeat_interleave(added)
        place += torch.arange(len(place))
        count += added
        if count.max() > plan.width:
            break
        similarity.view(-1).scatter_(0, place, scores.view(-1).index_select(0, passing))
        passing -= (first[:-1] - start).repeat_interleave(added)
        index.view(-1).scatter_(0, place, passing.int())
    if count.min() < request.m or count.max() > plan.width:
        fallback_counter(request.bank.device).add_(queries)
        return None
    similarity, index = Neighbours(similarity[:, : count.max()], index).top(request.m, sort=False)
    return Neighbours(similarity, index.long())


def _onednn_similarities(query: Tensor, bank: Tensor) -> Tensor:
    """As :func:`similarities`, for blocks that may be copied.

    oneDNN is much faster than the BLAS that ``mm`` calls on processors that are not Intel's.
    """
    if not torch.backends.mkldnn.is_available():
        return similarities(query, bank)
    with disable_autocast(query.device):
        product = F.linear(query.float().to_mkldnn(), bank.float().to_mkldnn())
    return product.to_dense()


def search_blocks(request: Request) -> Neighbours:
    """Search without a threshold, in any order; memory is bounded by ``max_elements``."""
    rows, columns = _block_shape(request)
    return concatenate([_search_in_blocks(part, columns) for part in request.split(rows)])


def _search_in_blocks(part: Request, columns: int) -> Neighbours:
    starts = range(0, len(part.bank), columns)
    blocks = (_search_block(part, slice(start, start + columns)) for start in starts)
    return functools.reduce(lambda best, block: _merge(best, block, part.m), blocks)


def _search_block(part: Request, block: slice) -> Neighbours:
    scores = similarities(part.query, part.bank[block])
    part.mask(scores, block)
    similarity, index = scores.topk(min(part.m, scores.size(1)), dim=1, sorted=False)
    return Neighbours(similarity, index.add_(block.start))


def _merge(one: Neighbours, other: Neighbours, m: int) -> Neighbours:
    both = Neighbours(*(torch.cat(pair, dim=1) for pair in zip(one, other, strict=True)))
    return both.top(m, sort=False)


def _block_shape(request: Request) -> tuple[int, int]:
    """Choose how many queries meet how many bank rows at a time.

    Whole rows need no merging. Where :data:`ROW_GROUP` of them exceed the limit, the bank is split
    as well, but into blocks no narrower than ``m``, below which merging takes most of the time.
    """
    length, limit = len(request.bank), request.max_elements
    rows = max(limit // length // ROW_GROUP, 1) * ROW_GROUP
    rows = max(min(len(request.query), rows), 1)
    return rows, min(length, max(limit // rows, request.m))
