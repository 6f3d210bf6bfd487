"""The steps of the CPU search in C: loads a build of ``_native.c`` and calls it.

The builds are plain libraries that get addresses; neither the headers of Python nor those of
PyTorch are needed to compile them. Where there is none, :mod:`.search` does the same in PyTorch.
"""

import ctypes
import functools
import re
import zlib
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

SOURCE = Path(__file__).with_name('_native.c')
# The builds that a processor can run, by what PyTorch calls it, the fastest first.
BUILDS = {'AVX512': ('_native_avx512', '_native_avx2'), 'AVX2': ('_native_avx2',)}
# Arguments of the functions: i is an integer, a an address.
SIGNATURES = {'sift': 'iiaaiiiiiiaaaaaaa', 'select_highest': 'iiiaaaa'}
TYPES = {'i': ctypes.c_int64, 'a': ctypes.c_void_p}


class Hidden(Protocol):
    """What each query must not find: int64, ``(B,)`` a row, ``(N,)`` and ``(B,)`` labels."""

    exclude: Tensor | None
    bank_label: Tensor | None
    query_label: Tensor | None


class Passed(NamedTuple):
    """What has reached the thresholds; in each row the first ``count`` entries are filled."""

    value: Tensor
    index: Tensor
    count: Tensor


def cpu_capability() -> str:
    """Which instructions PyTorch uses: ``'DEFAULT'``, ``'AVX2'``, ``'AVX512'``, or others."""
    # torch.backends.cpu, which tells as much, came with PyTorch 2.1.
    found = re.search(r'CPU capability usage: (\w+)', torch.__config__.show())
    return found[1] if found else 'DEFAULT'


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the fastest build that this processor can run; None if there is none."""
    names = (*BUILDS.get(cpu_capability(), ()), '_native')
    paths = [SOURCE.with_name(name + suffix) for name in names for suffix in EXTENSION_SUFFIXES]
    return next((built for path in paths if (built := _load(path))), None)


def _load(path: Path) -> ctypes.CDLL | None:
    """None also where an editable install still holds a build of another version of the source."""
    try:
        built = ctypes.CDLL(str(path))
    except OSError:
        return None
    if SOURCE.is_file() and _constant(built, 'source') != zlib.crc32(SOURCE.read_bytes()):
        return None
    for name, letters in SIGNATURES.items():
        function = getattr(built, name)
        function.argtypes, function.restype = [TYPES[letter] for letter in letters], None
    return built


def _constant(built: ctypes.CDLL, name: str) -> int:
    return ctypes.c_int64.in_dll(built, name).value


def available() -> bool:
    """Whether a build for this processor is installed, and uses as many threads as PyTorch."""
    if library() is None:
        return False
    return _constant(library(), 'threaded') == 1 or torch.get_num_threads() == 1


def sift(
    query: Tensor, blocks: Iterable[Tensor], threshold: Tensor, hidden: Hidden, width: int
) -> Passed:
    """Find the rows of the bank whose product with a query reaches its threshold.

    Args:
        query (Tensor): Float, shape ``(B, D)``.
        blocks (Iterable[Tensor]): float32, shape ``(rows, D)`` each, together the bank.
        threshold (Tensor): float32, shape ``(B,)``. A NaN reaches none.
        hidden (Hidden): What each query must not find.
        width (int): How many rows of the bank there is room for; ``count`` may be higher.

    Returns:
        Passed: Similarities, float32, and rows, int32, ``(B, width)``, and how many, ``(B,)``.
    """
    vectors = _vectors(len(query))
    queries = vectors * _constant(library(), 'lanes')
    groups = -(-len(query) // queries)
    added = groups * queries - len(query)
    packed = F.pad(query.float(), (0, 0, 0, added)).view(groups, queries, -1).mT.contiguous()
    threshold = F.pad(threshold, (0, added), value=torch.inf)
    label, own, exclude = map(_integers, (hidden.bank_label, hidden.query_label, hidden.exclude))
    value = torch.empty((len(query), width))
    index = torch.empty((len(query), width), dtype=torch.int32)
    count = torch.zeros(len(query), dtype=torch.int64)
    parts = (packed, threshold, exclude, own, value, index, count)
    threads = min(torch.get_num_threads(), groups)
    first = 0
    for block in blocks:
        block = block if block.stride(1) == 1 else block.contiguous()
        library().sift(
            threads, vectors, block.data_ptr(), _address(label), len(block), block.stride(0),
            block.size(1), first, width, groups, *map(_address, parts),
        )  # fmt: skip
        first += len(block)
    return Passed(value, index, count)


def _integers(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.to(torch.int64).contiguous()


def _address(values: Tensor | None) -> int | None:
    """Where the values lie; None, a null pointer, for none."""
    return None if values is None else values.data_ptr()


def _vectors(queries: int) -> int:
    """Choose how wide a group of queries is: wide ones are faster, if each thread gets one."""
    most = min(
        _constant(library(), 'most_vectors'),
        queries // _constant(library(), 'lanes') // torch.get_num_threads(),
    )
    return max(vectors for vectors in (1, 2, 4) if vectors <= max(most, 1))


def put_highest_first(passed: Passed, m: Tensor) -> None:
    """Move the highest similarities of each query to the front, and their rows, in place.

    Args:
        passed (Passed): Of each query at least ``m`` entries are filled.
        m (Tensor): int64, shape ``(B,)``, how many are moved; their order stays.
    """
    rows, width = passed.value.shape
    threads = max(min(torch.get_num_threads(), rows), 1)
    addresses = map(_address, (m.contiguous(), *passed))
    library().select_highest(threads, rows, width, *addresses)
