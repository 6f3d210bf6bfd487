"""Whether the Triton kernels can be used, and whether they give what PyTorch gives.

Compilers and drivers differ, and wrong neighbours would spoil a training run without an error. So
the kernels run on small problems first, once in a process for each GPU and type of bank. Importing
this module does not import Triton.
"""

import functools
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .products import disable_autocast
from .request import Request
from .threshold import fallback_counter

# In older versions atomic_add returns a wrong result to some threads (triton-lang/triton issue
# 7402, fixed in pull request 7460). PyTorch 2.9 requires this one.
TRITON_VERSION = (3, 5)
# The GPUs that Triton supports.
CAPABILITY = (8, 0)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Case(NamedTuple):
    """One search: how many queries, rows of the bank, dimensions and rows to find."""

    queries: int
    rows: int
    dim: int
    m: int
    stored: bool = False  # The queries are rows of the bank, and each excludes itself.
    labels: bool = False  # Rows are hidden by their labels as well.


# The programs that training runs: of the objective, of the graph and of the inter branch. They end
# within a block of queries, of rows and (the last) of dimensions.
CASES = (
    Case(130, 30_011, 128, 520),
    Case(130, 30_011, 128, 20, stored=True),
    Case(30, 3001, 72, 150, labels=True),
)
# Largest error of the similarities of unit rows; rounding the queries to 16 bits costs less.
TOLERANCE = 1e-4
# How far the good thresholds lie below the score of rank m, and the buffer in multiples of m.
MARGIN, BUFFER = 0.01, 3


@functools.cache
def kernels() -> ModuleType:
    """Import :mod:`.triton`; raise ``ImportError`` if Triton is missing or too old."""
    needed = '.'.join(map(str, TRITON_VERSION))
    if find_spec('triton') is None:
        raise ImportError(f'Triton {needed} or newer is not installed')
    import triton

    if tuple(int(part) for part in triton.__version__.split('.')[:2]) < TRITON_VERSION:
        raise ImportError(f'Triton is {triton.__version__}, needed is {needed} or newer')
    from . import triton as search_kernels

    return search_kernels


def unsupported_reason(bank: Tensor) -> str | None:
    """Return why the Triton kernels cannot read a bank, as a clause; None if they can."""
    if bank.dtype not in DTYPES:
        return f'the bank is {bank.dtype}, its kernels read float32, float16 and bfloat16'
    if bank.device.type not in ('cpu', 'cuda'):
        return f'the bank is on {bank.device}, its kernels run on CUDA devices'
    try:
        interpreted = kernels().INTERPRETED
    except ImportError as error:
        return str(error)
    if bank.device.type == 'cpu' and not interpreted:
        return 'the bank is on the CPU, where its kernels run with TRITON_INTERPRET=1 only'
    if bank.is_cuda and torch.cuda.get_device_capability(bank.device) < CAPABILITY:
        return f'{torch.cuda.get_device_name(bank.device)} is older than Triton supports'
    return None


def gpu_kernels(bank: Tensor) -> ModuleType | None:
    """Return :mod:`.triton_gather` where it can read a bank on a GPU and passed the self-test."""
    if not bank.is_cuda or unsupported_reason(bank) or not passed(bank.device, bank.dtype):
        return None
    from . import triton_gather

    return triton_gather


@functools.cache
def passed(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the kernels pass on a device for a type of bank; warn if they fail.

    Runs once, outside autocast whatever the caller's mode, since the result is cached. On a CPU,
    where the kernels are interpreted for tests, it is skipped.
    """
    if device.type == 'cpu':
        return True
    try:
        for case in CASES:
            run_case(case, device, dtype)
    except Exception as error:  # Compilers and drivers raise errors of any type.
        warnings.warn(
            f'The Triton kernels of mmselfsup_invp do not work on {device} for {dtype} ({error}); '
            'PyTorch searches instead, which gives the same result and takes longer. Please report '
            f'this with the versions: torch {torch.__version__}, CUDA {torch.version.cuda}.',
            stacklevel=2,
        )
        return False
    return True


@torch.no_grad()
def run_case(case: Case, device: torch.device, dtype: torch.dtype) -> None:
    """Search with thresholds of which some mislead, and read rows; raise if a result differs."""
    from . import triton_gather

    with disable_autocast(device):
        request = make_request(case, device, dtype)
        query, bank = request.query, request.bank
        every = query.double() @ bank.double().T
        visible = every.clone()
        request.mask(visible, slice(0, None))
        expected, index = visible.topk(case.m, dim=1)
        # Half of the thresholds let enough rows pass, a quarter too few, a quarter too many.
        threshold = expected[:, -1].float() - MARGIN
        threshold[::4], threshold[1::4] = 2, -2
        misled = len(threshold[::4]) + len(threshold[1::4])
        before = fallback_counter(device).clone()
        found = kernels().search(request, threshold, BUFFER * case.m)
        _compare('similarities', found.similarity.sort(dim=1, descending=True).values, expected)
        _compare('rows', found.similarity, every.gather(1, found.index))
        repeated = found.index.sort(dim=1).values.diff(dim=1) < 1
        _compare('repeated rows', repeated.double(), every[:, :1] * 0)
        again = fallback_counter(device) - before
        _compare('fallbacks', again.double(), torch.full_like(again, misled).double())
        products = triton_gather.gathered_products(query, bank, index)
        _compare('products', products, every.gather(1, index))
        sums = torch.bmm(expected[:, None], bank.double()[index]).squeeze(1)
        _compare('sums of rows', triton_gather.weighted_rows(expected.float(), bank, index), sums)


def make_request(case: Case, device: torch.device, dtype: torch.dtype) -> Request:
    """Draw queries and a bank of unit rows."""
    generator = torch.Generator().manual_seed(0)
    query, bank = (
        F.normalize(torch.randn(rows, case.dim, generator=generator)).to(device)
        for rows in (case.queries, case.rows)
    )
    bank = bank.to(dtype)
    own = torch.arange(case.queries, device=device)
    label = torch.arange(case.rows, device=device) % 7
    exclude = own if case.stored or case.labels else None
    query = bank[: case.queries] if case.stored else query
    return Request(query, bank, case.m, exclude, (own % 7, label) if case.labels else None)


def _compare(what: str, found: Tensor, expected: Tensor) -> None:
    error = (found - expected).abs().max().item()
    if not error <= TOLERANCE:
        raise AssertionError(f'{what} are off by {error:.2g}')
