"""The CPU search in C, and parts of the losses: loads a build of the sources and calls it.

The builds are plain shared libraries that receive addresses: neither the headers of Python nor
those of PyTorch are needed to compile them. Without a build PyTorch searches (``torch_blocks.py``).
"""

import ctypes
import functools
import re
import zlib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .products import upcast
from .request import Neighbours, Request
from .threshold import Plan, fallback_counter, plan_cpu, sample_scores

SOURCE = Path(__file__).with_name('_native.c')
OTHER_SOURCES = ('_native_order.c', '_native_losses.c', '_native_vector.h')
# The builds that a processor can run, by PyTorch's name for it, the fastest first.
BUILDS = {'AVX512': ('_native_avx512', '_native_avx2'), 'AVX2': ('_native_avx2',)}
# Arguments of the functions: i is an integer, f a float32, a an address.
SIGNATURES = {
    'filter_rows': 'aaiii',
    'gathered_products': 'iiiiiiaaaaa',
    'highest_few': 'iiiiaaa',
    'masked_exponentials': 'iiifaaaaa',
    'ranked_value': 'iiiiaa',
    'select_highest': 'iiiiaaaaaa',
    'sort_descending': 'iiiaaaaa',
    'weighted_rows': 'iiiiiiaaaaa',
}
TYPES: dict[str, type[ctypes._SimpleCData]] = {
    'i': ctypes.c_int64, 'f': ctypes.c_float, 'a': ctypes.c_void_p,
}  # fmt: skip


class Arguments(ctypes.Structure):
    """The arguments of a filter pass: ``Filter`` in ``_native.c``."""

    ADDRESSES = (
        'query', 'threshold', 'exclude', 'query_label', 'bank_label', 'value', 'index', 'count',
    )  # fmt: skip
    NUMBERS = ('width', 'dim', 'groups', 'vectors', 'threads')
    _fields_ = [(name, TYPES['a']) for name in ADDRESSES] + [(name, TYPES['i']) for name in NUMBERS]


class Candidates(NamedTuple):
    """The rows that pass the thresholds; the first ``count`` entries of each query are filled."""

    value: Tensor  # float32, (B, width), similarities.
    # The two names hide methods of tuple.
    index: Tensor  # type: ignore[assignment]  # int32, (B, width), rows of the bank.
    count: Tensor  # type: ignore[assignment]  # int64, (B,), above the width if some were dropped.


def cpu_capability() -> str:
    """Return which instructions PyTorch uses: ``'DEFAULT'``, ``'AVX2'``, ``'AVX512'`` or others."""
    # torch.backends.cpu.get_cpu_capability came with PyTorch 2.1.
    found = re.search(r'CPU capability usage: (\w+)', torch.__config__.show())
    return found[1] if found else 'DEFAULT'


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the fastest build that this processor can run; None if there is none."""
    names = (*BUILDS.get(cpu_capability(), ()), '_native')
    paths = [SOURCE.with_name(name + suffix) for name in names for suffix in EXTENSION_SUFFIXES]
    return next((built for path in paths if (built := _load(path))), None)


def _load(path: Path) -> ctypes.CDLL | None:
    """Load a build; None also if an editable install has a build of another source version."""
    try:
        built = ctypes.CDLL(str(path))
    except OSError:
        return None
    if SOURCE.is_file():
        paths = SOURCE, *map(SOURCE.with_name, OTHER_SOURCES)
        if _constant(built, 'source') != zlib.crc32(b''.join(map(Path.read_bytes, paths))):
            return None
    for name, letters in SIGNATURES.items():
        function = getattr(built, name)
        function.argtypes, function.restype = [TYPES[letter] for letter in letters], None
    return built


def _constant(built: ctypes.CDLL, name: str) -> int:
    return ctypes.c_int64.in_dll(built, name).value


def available() -> bool:
    """Return whether there is a build for this processor that uses as many threads as PyTorch."""
    built = library()
    if built is None:
        return False
    return _constant(built, 'threaded') == 1 or torch.get_num_threads() == 1


def serves(values: Tensor) -> bool:
    """Return whether the functions in C can take a tensor: on the CPU, if there is a build."""
    return values.device.type == 'cpu' and available()


def _built() -> ctypes.CDLL:
    built = library()
    assert built is not None, 'native.available() says whether there is a build'
    return built


def unsupported_reason(request: Request) -> str | None:
    """Return why the search in C cannot serve a request, as a clause; None if it can."""
    if request.bank.device.type != 'cpu':
        return f'the bank is on {request.bank.device}, it searches on the CPU'
    if not available():
        return 'it was not compiled for this processor and the threads of PyTorch'
    return None


def search(request: Request) -> Neighbours | None:
    """Search in one pass with a threshold, in any order.

    None where that is not worthwhile, or where a sample was misleading or holds NaN.
    """
    plan = plan_cpu(request)
    if plan is None:
        return None
    threshold = _sample_threshold(request, plan)
    arguments, candidates = filter_arguments(request, threshold, plan.width)
    first = 0
    for block in upcast(request.bank):
        block = block if block.stride(1) == 1 else block.contiguous()
        place = block.data_ptr(), len(block), block.stride(0), first
        _built().filter_rows(ctypes.byref(arguments), *place)
        first += len(block)
    if candidates.count.min() < request.m or candidates.count.max() > plan.width:
        fallback_counter(request.bank.device).add_(len(request.query))
        return None
    return select_highest(candidates, torch.full_like(candidates.count, request.m), request.m)


def _sample_threshold(request: Request, plan: Plan) -> Tensor:
    """As :func:`.threshold.sample_threshold`, without ``topk``; NaN where the sample holds one."""
    scores = sample_scores(request, plan)
    threshold = torch.empty(len(scores))
    sizes = _threads(len(scores)), *scores.shape, plan.rank
    _built().ranked_value(*sizes, *map(_address, (scores, threshold)))
    return threshold.masked_fill_(scores.amax(dim=1).isnan(), torch.nan)


def filter_arguments(
    request: Request, threshold: Tensor, width: int
) -> tuple[Arguments, Candidates]:
    """Return what ``filter_rows`` takes, and the candidates that it fills.

    It keeps at most ``width`` rows of each query, whose product reaches the threshold, float32,
    ``(B,)``; nothing reaches NaN.
    """
    num, dim = request.query.shape
    vectors = _vectors(num)
    queries = vectors * _constant(_built(), 'lanes')
    groups = -(-num // queries)
    added = groups * queries - num
    query = F.pad(request.query.float(), (0, 0, 0, added)).view(groups, queries, dim)
    query_label, bank_label = request.labels or (None, None)
    value = torch.empty((num, width))
    index, count = torch.empty_like(value, dtype=torch.int32), torch.zeros(num, dtype=torch.int64)
    candidates = Candidates(value, index, count)
    tensors = (
        query.mT.contiguous(), F.pad(threshold, (0, added), value=torch.inf),
        *map(_integers, (request.exclude, query_label, bank_label)), *candidates,
    )  # fmt: skip
    threads = min(torch.get_num_threads(), groups)
    arguments = Arguments(*map(_address, tensors), width, dim, groups, vectors, threads)
    # The structure holds addresses only; this keeps their tensors alive.
    arguments.tensors = tensors
    return arguments, candidates


def _vectors(queries: int) -> int:
    """Choose how many vectors of queries form a group: many, if each thread gets a group."""
    most = min(
        _constant(_built(), 'most_vectors'),
        queries // _constant(_built(), 'lanes') // torch.get_num_threads(),
    )
    return max(vectors for vectors in (1, 2, 4) if vectors <= max(most, 1))


def _integers(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.to(torch.int64).contiguous()


def _address(values: Tensor | None) -> int | None:
    """Return the address of the first value; None, a null pointer, for None."""
    return None if values is None else values.data_ptr()


def _threads(rows: int) -> int:
    return max(min(torch.get_num_threads(), rows), 1)


def select_highest(candidates: Candidates, m: Tensor, width: int) -> Neighbours:
    """Return the ``m`` candidates of each query with the highest similarities, in their order.

    ``m`` is int64 of shape ``(B,)``, at most the count. The result has ``width`` columns: after the
    first ``m`` it is undefined, but has rows of candidates only if all of them are filled. The
    candidates are overwritten.
    """
    rows, most = candidates.value.shape
    m = m.contiguous()
    found = Neighbours(torch.empty(rows, width), torch.empty(rows, width, dtype=torch.int64))
    sizes = _threads(rows), rows, most, width
    _built().select_highest(*sizes, *map(_address, (m, *candidates, *found)))
    return found


def highest_few(similarity: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Return the ``num`` highest of each row, in descending order, and their columns, int64."""
    similarity = similarity.contiguous()
    rows, width = similarity.shape
    highest, column = torch.empty(rows, num), torch.empty(rows, num, dtype=torch.int64)
    tensors = similarity, highest, column
    _built().highest_few(_threads(rows), rows, width, num, *map(_address, tensors))
    return highest, column


def sort_descending(found: Neighbours) -> Neighbours:
    """Sort the rows found for each query by descending similarity, NaN first."""
    similarity, index = (part.contiguous() for part in found)
    rows, width = similarity.shape
    threads = _threads(rows)
    scratch = torch.empty((threads, 2, width), dtype=torch.int64)
    ordered = Neighbours(torch.empty_like(similarity), torch.empty_like(index))
    tensors = similarity, index, scratch, *ordered
    _built().sort_descending(threads, rows, width, *map(_address, tensors))
    return ordered


def masked_exponentials(
    similarity: Tensor, masked: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``exp((similarity - highest) / temperature)``, 0 where masked, highest, and sum of each row.

    ``similarity`` is float32, ``masked`` bool, both ``(B, M)``.
    """
    similarity = similarity.contiguous()
    masked = None if masked is None else masked.contiguous()
    exps = torch.empty_like(similarity)
    highest, total = similarity.new_empty(2, len(similarity))
    sizes = _threads(len(similarity)), *similarity.shape, temperature
    tensors = similarity, masked, exps, highest, total
    _built().masked_exponentials(*sizes, *map(_address, tensors))
    return exps, highest, total


def gathered_products(query: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """Compute ``query[b] . bank[index[b, j]]``, float32, ``(B, M)``; the bank is float32."""
    query, index = query.float().contiguous(), index.long().contiguous()
    bank, sizes = _layout(bank, index)
    out, outside = torch.empty(index.shape), ctypes.c_int64()
    addresses = map(_address, (query, bank, index, out))
    _built().gathered_products(*sizes, *addresses, ctypes.addressof(outside))
    _require_inside(not outside.value, bank)
    return out


def weighted_rows(weight: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """Compute ``sum_j weight[b, j] * bank[index[b, j]]``, float32, ``(B, D)``, on the CPU.

    The bank is float32. Rows that ascend, as a search gives them, are read from the caches.
    """
    weight, index = weight.float().contiguous(), index.long().contiguous()
    bank, sizes = _layout(bank, index)
    total = torch.zeros((len(index), bank.size(1)))
    done = (ctypes.c_int64 * len(index))()
    addresses = map(_address, (bank, weight, index, total))
    _built().weighted_rows(*sizes, *addresses, ctypes.addressof(done))
    _require_inside(min(done, default=index.size(1)) == index.size(1), bank)
    return total


def _layout(bank: Tensor, index: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return a bank whose rows have no gaps, and what the functions need to know of both."""
    bank = bank if bank.stride(1) == 1 else bank.contiguous()
    (rows, dim), (queries, chosen) = bank.shape, index.shape
    return bank, (_threads(queries), queries, chosen, dim, rows, bank.stride(0))


def _require_inside(inside: bool, bank: Tensor) -> None:
    if not inside:
        raise IndexError(
            f'the index names rows outside the bank, which has the rows 0 to {len(bank) - 1}'
        )
