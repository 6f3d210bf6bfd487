"""Search with a threshold for each query, which a sample of the bank suggests.

On the CPU ``topk`` spends its time on moving whole rows about, and on a GPU on reading what a
product has written. Here only what passes the threshold is kept. That is exact: where a sample
misled, and fewer than ``m`` rows pass or more than there is room for, all rows are ranked.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import devices, native
from .blocks import Found, Hidden, similarities, widened

# Of the CPU: similarities a block (they stay in the caches), and columns that make a block worth
# its overhead.
SIEVE_ELEMENTS = 2**19
SIEVE_COLUMNS = 2**10
# Rows of the bank for each that is sampled, and samples that must rank above the threshold for it
# to be a fair guess.
SAMPLE_STRIDE = 24
SAMPLE_RANK = 16
# What ranks m-th in a sample is no higher than what ranks m-th in the bank. Some ranks more make up
# for the row that a query must not find and for roundings.
SPARE_RANKS = 3
# The golden section in fixed point.
GOLDEN_SECTION = 2654435761
# Of a GPU: queries that are searched at a time, at most, and as many as leave each of them a sample
# of one in so many rows; the smaller it is, the more pass.
DEVICE_QUERIES = 1024
DEVICE_STRIDE = 96
# Standard deviations that the threshold of a sample is lowered by: on the CPU, and on a GPU, where
# one processor takes many times longer to put a query right than all of them to search.
CPU_DEVIATIONS = 4
DEVICE_DEVIATIONS = 6

# On each device, queries that were searched again.
_counters: dict[torch.device, Tensor] = {}


class _Plan(NamedTuple):
    """Of a sieve: rows for each that is sampled, which rank of the sample passes, room a query."""

    stride: int
    rank: int
    width: int


def _plan(queries: int, bank_rows: int, m: int, limit: int) -> _Plan | None:
    """Choose a threshold for the CPU; None where the sample would be a poor guess."""
    plan = _threshold_plan(queries, bank_rows, m, limit, CPU_DEVIATIONS)
    fair = m / plan.stride >= SAMPLE_RANK and bank_rows >= 8 * m
    return plan if queries and fair else None


def _device_queries(bank_rows: int, limit: int) -> int:
    """How many queries a GPU searches at a time, so that what may pass does not grow with them."""
    return min(DEVICE_QUERIES, max(limit * DEVICE_STRIDE // bank_rows, 1))


def _device_plan(queries: int, bank_rows: int, m: int, limit: int) -> _Plan | None:
    """Choose a threshold for a GPU, where many times ``m`` rows may pass while these are few."""
    plan = _threshold_plan(queries, bank_rows, m, limit, DEVICE_DEVIATIONS)
    return plan if queries and bank_rows >= 4 * plan.width else None


def _threshold_plan(queries: int, bank_rows: int, m: int, limit: int, deviations: int) -> _Plan:
    """Choose a threshold that ``m`` rows and some standard deviations more will pass."""
    stride = max(SAMPLE_STRIDE, math.ceil(bank_rows * queries / limit))
    sampled = m / stride
    fair = max(math.ceil(sampled + deviations * sampled**0.5), SAMPLE_RANK)
    rank = min(fair, m + SPARE_RANKS)
    # The few rows of a low rank deviate by more than its root.
    spread = max(rank, SAMPLE_RANK) ** 0.5
    return _Plan(stride, rank, math.ceil(stride * (rank + (deviations + 1) * spread)))


def _sample(bank: Tensor, stride: int) -> Tensor:
    """Rows of the bank, one of every ``stride``, at places that keep time with no order of theirs.

    A bank whose classes take turns would otherwise show some of them alone. The places look random
    and are the same every time: the fractions of a quadratic sequence. Its overflow does no harm.
    """
    start = torch.arange(0, len(bank) - stride + 1, stride, device=bank.device)
    return start + (start * start * GOLDEN_SECTION >> 32) % stride


def _threshold(query: Tensor, hidden: Hidden, bank: Tensor, plan: _Plan) -> Tensor:
    """What the row of a certain rank in a sample of the bank reaches, ``(B,)``."""
    rows = _sample(bank, plan.stride)
    sample = similarities(query, bank, rows)
    hidden.within(rows).mask(sample, slice(0, None))
    return sample.topk(plan.rank, dim=1, sorted=False)[0].amin(dim=1)


def sieve(
    query: Tensor, hidden: Hidden, bank: Tensor, m: int, limit: int, compiled: bool | None = None
) -> Found | None:
    """Search in one pass of the CPU, in C or in PyTorch, in any order.

    Returns None where that is not worth it, or where the sample misled for one of the queries.
    """
    plan = _plan(len(query), len(bank), m, limit)
    if plan is None:
        return None
    if compiled is None:
        compiled = native.available()
    if compiled:
        found = _sieve_native(query, hidden, bank, m, plan)
    elif len(query) * SIEVE_COLUMNS > min(SIEVE_ELEMENTS, limit):
        return None
    else:
        found = _sieve_torch(query, hidden, bank, m, limit, plan)
    if found is None:
        _counter(bank.device).add_(len(query))
    return found


def _sieve_native(query: Tensor, hidden: Hidden, bank: Tensor, m: int, plan: _Plan) -> Found | None:
    rows = _sample(bank, plan.stride)
    sampled = hidden.within(rows)
    lowest = torch.full((len(query),), -torch.inf)
    passed = native.sift(query, widened(bank, rows), lowest, sampled, len(rows))
    visible = sampled.count_visible(len(query), len(rows))
    if (passed.count < visible).any():
        return None  # a NaN, which topk ranks first
    if visible.min() < plan.rank:
        return None
    native.put_highest_first(passed, torch.full_like(passed.count, plan.rank))
    threshold = passed.value[:, : plan.rank].amin(dim=1)
    passed = native.sift(query, widened(bank), threshold, hidden, plan.width)
    if passed.count.min() < m or passed.count.max() > plan.width:
        return None
    native.put_highest_first(passed, torch.full_like(passed.count, m))
    return passed.value[:, :m].contiguous(), passed.index[:, :m].long()


def _sieve_torch(
    query: Tensor, hidden: Hidden, bank: Tensor, m: int, limit: int, plan: _Plan
) -> Found | None:
    """The products come in blocks from oneDNN, and ``topk`` gets what passes of all of them."""
    threshold = _threshold(query, hidden, bank, plan)[:, None]
    width = plan.width
    similarity = query.new_full((len(query), width), -torch.inf, dtype=torch.float32)
    index = torch.zeros_like(similarity, dtype=torch.int32)
    room = torch.arange(len(query)) * width
    passed = torch.zeros_like(room)
    columns = min(SIEVE_ELEMENTS, limit) // len(query)
    for start in range(0, len(bank), columns):
        block = slice(start, start + columns)
        scores = _cpu_similarities(query, bank[block])
        hidden.mask(scores, block)
        passing = (scores >= threshold).flatten().nonzero().squeeze(1)
        first = torch.arange(len(query) + 1) * scores.size(1)
        edge = torch.searchsorted(passing, first)
        count = edge.diff()
        # Where the entries of each query go: behind those that it has from earlier blocks.
        place = (room + passed - edge[:-1]).repeat_interleave(count)
        place += torch.arange(len(place))
        passed += count
        if passed.max() > width:
            return None
        similarity.view(-1).scatter_(0, place, scores.view(-1).index_select(0, passing))
        passing -= (first[:-1] - start).repeat_interleave(count)
        index.view(-1).scatter_(0, place, passing.int())
    if passed.min() < m:
        return None
    similarity, kept = similarity[:, : passed.max()].topk(m, dim=1, sorted=False)
    return similarity, index.gather(1, kept).long()


def _cpu_similarities(query: Tensor, bank: Tensor) -> Tensor:
    """As :func:`similarities`, for blocks that may be copied.

    oneDNN is much faster than the BLAS that ``mm`` calls on processors that are not Intel's.
    """
    if not torch.backends.mkldnn.is_available():
        return similarities(query, bank)
    with torch.autocast('cpu', enabled=False):
        product = F.linear(query.float().to_mkldnn(), bank.float().to_mkldnn())
    return product.to_dense()


def search_fused(query: Tensor, hidden: Hidden, bank: Tensor, m: int, limit: int) -> Found | None:
    """Search in one pass of a GPU for some queries at a time, in any order.

    Returns None where that is not worth it.
    """
    queries = min(len(query), _device_queries(len(bank), limit))
    plan = _device_plan(queries, len(bank), m, limit)
    if plan is None:
        return None
    found = []
    for start in range(0, len(query), queries):
        part = slice(start, start + queries)
        arguments = query[part], hidden.of(part), bank
        threshold = _threshold(*arguments, plan)
        counter = _counter(bank.device)
        found.append(devices.kernels().search(*arguments, m, threshold, plan.width, counter))
    return tuple(map(torch.cat, zip(*found, strict=True)))


def _counter(device: torch.device) -> Tensor:
    if device not in _counters:
        # A tensor made in inference mode could not be changed outside of it.
        with torch.inference_mode(mode=False):
            _counters[device] = torch.zeros(1, dtype=torch.int64, device=device)
    return _counters[device]


def fallbacks() -> int:
    """Tell for how many queries a sample of the bank has misled the search since the last reset.

    They were searched again, which is exact but slow; many of them are a sign of a bank whose
    rows are all alike. Waits for the devices.

    Example:
        >>> reset_fallbacks()
        >>> bank = torch.ones(9000, 2)
        >>> sieve(bank[:3], Hidden(), bank, m=1000, limit=2**21)
        >>> fallbacks()
        3
    """
    return sum(counter.item() for counter in _counters.values())


def reset_fallbacks() -> None:
    """Begin to count anew."""
    for counter in _counters.values():
        counter.zero_()
