"""Exact search: the rows of the bank most similar to each query."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import devices, flat, native
from .checks import require_choice, require_features, require_range

# Similarities that one call holds at a time unless told otherwise: 8 MiB on the CPU, 64 MiB on
# accelerators.
CPU_ELEMENTS = 2**21
DEVICE_ELEMENTS = 2**24
# Rows of a bank of 16-bit numbers that are widened at a time.
CAST_ROWS = 2**13
# Queries go in multiples of this, which the matrix product likes best.
ROW_GROUP = 32
# The sieve of the CPU: similarities a block (they stay in the caches), columns that make a block
# worth its overhead, rows of the bank for each that is sampled, and samples that must rank above
# the threshold for it to be a fair guess.
SIEVE_ELEMENTS = 2**19
SIEVE_COLUMNS = 2**10
SAMPLE_STRIDE = 24
SAMPLE_RANK = 16
# Standard deviations that the threshold of a sample is lowered by: on the CPU, and where it takes
# one processor of a GPU many times longer to put a query right than to search all of them.
CPU_DEVIATIONS = 4
DEVICE_DEVIATIONS = 6

# Similarity, float32, and row, int64, of each query.
Found = tuple[Tensor, Tensor]


def default_elements(device: torch.device) -> int:
    """Return how many similarities to hold at a time on ``device``."""
    return CPU_ELEMENTS if device.type == 'cpu' else DEVICE_ELEMENTS


@torch.no_grad()
def top_m(
    query: Tensor,
    bank: Tensor,
    m: int,
    *,
    exclude: Tensor | None = None,
    bank_label: Tensor | None = None,
    query_label: Tensor | None = None,
    sort: bool = True,
    max_elements: int | None = None,
    backend: str = 'auto',
) -> Found:
    """Find the ``m`` rows of the bank with the highest inner product with each query.

    With each query's own row as ``exclude`` this is N_M(i) of the InvP paper
    (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_, section 3.3). The result is exact,
    ties aside. The similarities are computed in float32 whatever the storage type, block by
    block, so that the memory on top of the result is bounded by ``max_elements`` and does not
    grow with ``N``. No gradient flows through the search; :func:`bank_similarity` gives
    similarities that have one.

    Backends:

    - ``'torch'``: matrix products and ``topk``, on any device.
    - ``'native'``: one pass in C, on the CPU, if it was compiled.
    - ``'triton'``: one pass on a GPU, without waiting for it; what passes a threshold is held in
      addition, about twice the result. With a bank of 16-bit numbers the queries are rounded to
      its type as well, so that the similarities differ from those of the other backends by that.
    - ``'faiss'``: the exact search of faiss; without labels, and on GPUs for 2048 rows at most.
      Converts a bank of 16-bit numbers as a whole.
    - ``'auto'``: ``'native'`` on the CPU and ``'triton'`` on CUDA devices if they can be used,
      ``'torch'`` otherwise.

    Args:
        query (Tensor): Float, shape ``(B, D)``; unit rows make the inner product the cosine.
        bank (Tensor): Float (any width), shape ``(N, D)``, on the device of ``query``.
        m (int): Rows to find for each query, 1 to N, or to N - 1 with ``exclude``.
        exclude (Tensor, optional): int64, shape ``(B,)``, one row of the bank that each query
            must not find. Defaults to None, find any row.
        bank_label (Tensor, optional): Integer, shape ``(N,)``, a label of each row: queries find
            only rows of another label than ``query_label``. Where these are fewer than ``m``, the
            rest of the result has the similarity -inf. Defaults to None, find any row.
        query_label (Tensor, optional): Of the type of ``bank_label``, shape ``(B,)``.
        sort (bool): Whether to give them in descending order. If not, the order is arbitrary
            but for the least similar, which stands last; the losses need no more, and sorting
            thousands of columns costs about as much as finding them. Defaults to True.
        max_elements (int, optional): Similarities held at a time. Defaults to None: 2**21
            (8 MiB) on the CPU, 2**24 elsewhere.
        backend (str): How to search. Defaults to ``'auto'``.

    Returns:
        tuple[Tensor, Tensor]: Similarity, float32, and row index, int64, both ``(B, m)``.

    Raises:
        ValueError: If the shapes do not fit, ``m`` is not within its range, or the backend is
            unknown or cannot be used here.

    Example:
        >>> bank = torch.eye(4)
        >>> top_m(torch.tensor([[0.8, 0.6, 0.0, 0.0]]), bank, m=2)
        (tensor([[0.8000, 0.6000]]), tensor([[0, 1]]))
    """
    require_features('bank', bank)
    require_features('query', query, bank.size(1))
    others = len(bank) if exclude is None else len(bank) - 1
    require_range('m', m, 1, others, f'each query has {others} rows of the bank to find')
    hidden = _Hidden(exclude, bank_label, query_label)
    limit = max_elements or default_elements(bank.device)
    search = _backend(backend, hidden, bank, m)
    found = search(query, hidden, bank, m, limit) if len(query) else None
    similarity, index = found or _search(query, hidden, bank, m, limit)
    if sort:
        similarity, order = similarity.sort(dim=1, descending=True)
        index = index.gather(1, order)
    else:
        farthest = similarity.argmin(dim=1, keepdim=True)
        _swap_with_last(similarity, farthest)
        _swap_with_last(index, farthest)
    return similarity, index


def _swap_with_last(values: Tensor, column: Tensor) -> None:
    """Exchange one entry of each row with its last, in place."""
    last = values[:, -1:].clone()
    values[:, -1:] = values.gather(1, column)
    values.scatter_(1, column, last)


def nearest_first(similarity: Tensor, index: Tensor, num: Tensor) -> tuple[Tensor, Tensor]:
    """Put the ``num`` most similar rows of each query first, in any order.

    What stands behind them means nothing. Sorting does more than this asks for, and is what there
    is on other devices than the CPU.

    Args:
        similarity (Tensor): float32, shape ``(B, m)``, without NaN.
        index (Tensor): int64, shape ``(B, m)``, the rows of the bank.
        num (Tensor): int64, shape ``(B,)``, at most m.

    Returns:
        tuple[Tensor, Tensor]: Similarity and index, of the same shapes.
    """
    if similarity.device.type == 'cpu' and native.available():
        count = torch.full_like(num, similarity.size(1))
        passed = native.Passed(similarity.clone(), index.int(), count)
        native.put_highest_first(passed, num)
        return passed.value, passed.index.long()
    similarity, order = similarity.sort(dim=1, descending=True)
    return similarity, index.gather(1, order)


@dataclass
class _Hidden:
    """What each query must not find."""

    exclude: Tensor | None = None
    bank_label: Tensor | None = None
    query_label: Tensor | None = None

    def of(self, queries: slice) -> '_Hidden':
        """The same for some of the queries."""
        exclude = None if self.exclude is None else self.exclude[queries]
        label = None if self.query_label is None else self.query_label[queries]
        return _Hidden(exclude, self.bank_label, label)

    def within(self, sample: slice) -> '_Hidden':
        """The labels hidden in a sample of the bank; single rows matter little there."""
        label = None if self.bank_label is None else self.bank_label[sample]
        return _Hidden(None, label, self.query_label)

    def count_visible(self, queries: int, rows: int) -> Tensor:
        """How many rows differ in the label, ``(B,)`` int64."""
        if self.bank_label is None:
            return torch.full((queries,), rows)
        return (self.bank_label != self.query_label[:, None]).sum(dim=1)

    def mask(self, scores: Tensor, columns: slice) -> None:
        """Overwrite hidden entries of the scores of some rows of the bank by -inf."""
        if self.exclude is not None:
            # A row outside the block hides nothing.
            column = self.exclude[:, None] - columns.start
            inside = column.clamp(0, scores.size(1) - 1)
            value = scores.gather(1, inside).masked_fill_(inside == column, -torch.inf)
            scores.scatter_(1, inside, value)
        if self.bank_label is not None:
            label = self.bank_label[columns]
            scores.masked_fill_(label == self.query_label[:, None], -torch.inf)


def _search(query: Tensor, hidden: _Hidden, bank: Tensor, m: int, limit: int) -> Found:
    """Search block by block with ``topk``, in any order."""
    rows, columns = _block_shape(len(query), len(bank), m, limit)
    similarity = query.new_empty((len(query), m), dtype=torch.float32)
    index = torch.empty_like(similarity, dtype=torch.int64)
    for start in range(0, len(query), rows):
        part = slice(start, start + rows)
        similarity[part], index[part] = _search_rows(query[part], hidden.of(part), bank, m, columns)
    return similarity, index


def _search_rows(
    query: Tensor, hidden: _Hidden, bank: Tensor, m: int, columns: int
) -> tuple[Tensor, Tensor]:
    """Search one block of queries, merging what each block of bank rows gives."""
    best = best_index = None
    for start in range(0, len(bank), columns):
        block = slice(start, start + columns)
        scores = similarities(query, bank[block])
        hidden.mask(scores, block)
        similarity, index = scores.topk(min(m, scores.size(1)), dim=1, sorted=False)
        index += start
        if best is not None:
            similarity = torch.cat([best, similarity], dim=1)
            index = torch.cat([best_index, index], dim=1)
            similarity, kept = similarity.topk(min(m, similarity.size(1)), dim=1, sorted=False)
            index = index.gather(1, kept)
        best, best_index = similarity, index
    return best, best_index


class _Plan(NamedTuple):
    """Of a sieve: every which row is sampled, which rank of the sample passes, room a query."""

    stride: int
    rank: int
    width: int


def _plan(queries: int, bank_rows: int, m: int, limit: int) -> _Plan | None:
    """Choose a threshold for the CPU; None where the sample would be a poor guess."""
    plan = _threshold_plan(queries, bank_rows, m, limit, CPU_DEVIATIONS)
    fair = m / plan.stride >= SAMPLE_RANK and bank_rows >= 8 * m
    return plan if queries and fair else None


def _device_plan(queries: int, bank_rows: int, m: int, limit: int) -> _Plan | None:
    """Choose a threshold for a GPU, where many times ``m`` rows may pass while these are few."""
    plan = _threshold_plan(queries, bank_rows, m, limit, DEVICE_DEVIATIONS)
    return plan if queries and bank_rows >= 4 * plan.width else None


def _threshold_plan(queries: int, bank_rows: int, m: int, limit: int, deviations: int) -> _Plan:
    """Choose a threshold that ``m`` rows and some standard deviations more will pass."""
    stride = max(SAMPLE_STRIDE, math.ceil(bank_rows * queries / limit))
    sampled = m / stride
    rank = max(math.ceil(sampled + deviations * sampled**0.5), SAMPLE_RANK)
    return _Plan(stride, rank, math.ceil(stride * (rank + (deviations + 1) * rank**0.5)))


def _sieve(
    query: Tensor, hidden: _Hidden, bank: Tensor, m: int, limit: int, compiled: bool | None = None
) -> Found | None:
    """Search in one pass with a threshold for each query, in any order.

    On the CPU ``topk`` spends its time on moving whole rows about. Here only what passes a
    threshold is kept, which a sample of the bank suggests. Returns None where that is not worth
    it, or where the sample misled and fewer than ``m`` rows pass or more than there is room for;
    so the result is exact in any case.
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


def _sieve_native(
    query: Tensor, hidden: _Hidden, bank: Tensor, m: int, plan: _Plan
) -> tuple[Tensor, Tensor] | None:
    columns = slice(0, None, plan.stride)
    sample, sampled = bank[columns], hidden.within(columns)
    lowest = torch.full((len(query),), -torch.inf)
    passed = native.sift(query, _widened(sample), lowest, sampled, len(sample))
    visible = sampled.count_visible(len(query), len(sample))
    if (passed.count < visible).any():
        return None  # a NaN, which topk ranks first
    if visible.min() < plan.rank:
        return None
    native.put_highest_first(passed, torch.full_like(passed.count, plan.rank))
    threshold = passed.value[:, : plan.rank].amin(dim=1)
    passed = native.sift(query, _widened(bank), threshold, hidden, plan.width)
    if passed.count.min() < m or passed.count.max() > plan.width:
        return None
    native.put_highest_first(passed, torch.full_like(passed.count, m))
    return passed.value[:, :m].contiguous(), passed.index[:, :m].long()


def _sieve_torch(
    query: Tensor, hidden: _Hidden, bank: Tensor, m: int, limit: int, plan: _Plan
) -> tuple[Tensor, Tensor] | None:
    """The products come in blocks from oneDNN, and ``topk`` gets what passes of all of them."""
    threshold = _threshold(_cpu_similarities, query, hidden, bank, plan)[:, None]
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


def _threshold(
    product: Callable[[Tensor, Tensor], Tensor],
    query: Tensor, hidden: _Hidden, bank: Tensor, plan: _Plan,
) -> Tensor:  # fmt: skip
    """What the row of a certain rank in a sample of the bank reaches, ``(B,)``."""
    columns = slice(0, None, plan.stride)
    sample = product(query, bank[columns])
    hidden.within(columns).mask(sample, slice(0, None))
    return sample.topk(plan.rank, dim=1, sorted=False)[0].amin(dim=1)


def _search_fused(query: Tensor, hidden: _Hidden, bank: Tensor, m: int, limit: int) -> Found | None:
    """Search in one pass of a GPU; None where it is not worth it."""
    plan = _device_plan(len(query), len(bank), m, limit)
    if plan is None:
        return None
    threshold = _threshold(similarities, query, hidden, bank, plan)
    return devices.kernels().search(
        query, hidden, bank, m, threshold, plan.width, _counter(bank.device)
    )


def _search_torch(query: Tensor, hidden: _Hidden, bank: Tensor, m: int, limit: int) -> Found | None:
    if bank.device.type != 'cpu':
        return None
    return _sieve(query, hidden, bank, m, limit, compiled=False)


def _search_native(
    query: Tensor, hidden: _Hidden, bank: Tensor, m: int, limit: int
) -> Found | None:
    return _sieve(query, hidden, bank, m, limit, compiled=True)


def _search_flat(query: Tensor, hidden: _Hidden, bank: Tensor, m: int, _: int) -> Found | None:
    """Search with faiss for one row more than is asked for if one is hidden, and drop that."""
    if hidden.exclude is None:
        similarity, index = flat.flat_search(query, bank, m)
    else:
        similarity, index = flat.flat_search(query, bank, m + 1)
        similarity.masked_fill_(index == hidden.exclude[:, None], -torch.inf)
        similarity, kept = similarity.topk(m, dim=1)
        index = index.gather(1, kept)
    # A NaN hides a row from faiss.
    return None if (index < 0).any() else (similarity, index)


def _native_obstacle(_: _Hidden, bank: Tensor, m: int) -> str | None:
    if bank.device.type != 'cpu':
        return f'the bank is on {bank.device}, it searches on the CPU'
    if not native.available():
        return 'it was not compiled for this processor and the threads of PyTorch'
    return None


def _flat_obstacle(hidden: _Hidden, bank: Tensor, m: int) -> str | None:
    if hidden.bank_label is not None:
        return 'it cannot hide rows by their labels'
    return flat.flat_obstacle(bank, m + (hidden.exclude is not None))


class _Backend(NamedTuple):
    """A search, None where another is better, and why it cannot be used, None if it can."""

    search: Callable[[Tensor, _Hidden, Tensor, int, int], Found | None]
    obstacle: Callable[[_Hidden, Tensor, int], str | None]


BACKENDS = {
    'torch': _Backend(_search_torch, lambda *_: None),
    'native': _Backend(_search_native, _native_obstacle),
    'triton': _Backend(_search_fused, lambda hidden, bank, m: devices.fused_obstacle(bank)),
    'faiss': _Backend(_search_flat, _flat_obstacle),
}
# What 'auto' takes if it can be used.
PREFERRED = {'cpu': 'native', 'cuda': 'triton'}


def require_backend(name: str) -> None:
    """Raise ``ValueError`` that lists the backends unless ``name`` is one."""
    require_choice('backend', name, ['auto', *BACKENDS])


def _backend(name: str, hidden: _Hidden, bank: Tensor, m: int):
    require_backend(name)
    if name == 'auto':
        name = PREFERRED.get(bank.device.type, 'torch')
        name = 'torch' if BACKENDS[name].obstacle(hidden, bank, m) else name
    reason = BACKENDS[name].obstacle(hidden, bank, m)
    if reason is None:
        return BACKENDS[name].search
    usable = [other for other in BACKENDS if BACKENDS[other].obstacle(hidden, bank, m) is None]
    raise ValueError(
        f'backend = {name!r} cannot be used: {reason}. '
        f'Usable here: {", ".join(map(repr, ["auto", *usable]))}.'
    )


# On each device, queries that were searched again.
_counters: dict[torch.device, Tensor] = {}


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
        >>> _ = top_m(bank[:3], bank, 1000)
        >>> fallbacks()
        3
    """
    return sum(counter.item() for counter in _counters.values())


def reset_fallbacks() -> None:
    """Begin to count anew."""
    for counter in _counters.values():
        counter.zero_()


def similarities(query: Tensor, bank: Tensor) -> Tensor:
    """All inner products, in float32 even under autocast, which leaves ``out=`` calls alone."""
    query = query.float()
    out = query.new_empty((len(query), len(bank)))
    start = 0
    for block in _widened(bank):
        torch.mm(query, block.T, out=out[:, start : start + len(block)])
        start += len(block)
    return out


def _widened(bank: Tensor) -> Iterator[Tensor]:
    """The bank in float32: as it is, or block by block where it has to be converted."""
    step = CAST_ROWS if bank.device.type == 'cpu' else DEVICE_ELEMENTS // bank.size(1)
    step = len(bank) if bank.dtype == torch.float32 else max(step, 1)
    return (bank[start : start + step].float() for start in range(0, len(bank), step))


def _cpu_similarities(query: Tensor, bank: Tensor) -> Tensor:
    """As :func:`similarities`, for blocks that may be copied.

    oneDNN is much faster than the BLAS that ``mm`` calls on processors that are not Intel's.
    """
    if not torch.backends.mkldnn.is_available():
        return similarities(query, bank)
    with torch.autocast('cpu', enabled=False):
        product = F.linear(query.float().to_mkldnn(), bank.float().to_mkldnn())
    return product.to_dense()


def _block_shape(queries: int, bank_rows: int, m: int, max_elements: int) -> tuple[int, int]:
    """Choose how many queries meet how many bank rows at a time.

    Whole rows of similarities are best (nothing to merge). Where even :data:`ROW_GROUP` of them
    exceed the limit, the bank is split as well, but into blocks no narrower than ``m``, below
    which merging would cost more than it saves.
    """
    rows = max(max_elements // bank_rows // ROW_GROUP, 1) * ROW_GROUP
    rows = max(min(queries, rows), 1)
    return rows, min(bank_rows, max(max_elements // rows, m))
