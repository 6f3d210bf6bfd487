"""Whether the Triton kernels give on a GPU what PyTorch gives there.

Compilers and drivers differ, and a wrong neighbour would spoil a month of training without a sign.
So the kernels are tried on a small problem, once for each GPU of a process, before anything relies
on them.
"""

import functools
import warnings
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from . import devices
from .blocks import Hidden

# Of the problem: queries, rows of the bank, dimensions, rows to find.
QUERIES, ROWS, DIM, FOUND = 40, 3000, 72, 150
# Of similarities of unit rows; what 16-bit queries lose is below.
TOLERANCE = 1e-4


@functools.cache
def proven(device: torch.device) -> bool:
    """Try the kernels on a device; where they fail or err, warn, and tell to leave them alone.

    Args:
        device (torch.device): Where they would run. On a CPU, where they are interpreted for tests,
            they are believed.

    Returns:
        bool: Whether they have given what PyTorch gives.
    """
    if device.type == 'cpu':
        return True
    try:
        for dtype in devices.DTYPES:
            try_kernels(device, dtype)
    except Exception as error:  # Compilers and drivers fail in any way.
        warnings.warn(
            f'The Triton kernels of mmselfsup_invp do not work on {device} ({error}); PyTorch '
            'searches instead, which gives the same and takes longer. Please report this, with '
            f'the versions: torch {torch.__version__}, CUDA {torch.version.cuda}.',
            stacklevel=2,
        )
        return False
    return True


@torch.no_grad()
def try_kernels(device: torch.device, dtype: torch.dtype) -> None:
    """Search, search with thresholds that mislead, and read rows, each against PyTorch.

    Raises:
        AssertionError: If a result differs.
    """
    generator = torch.Generator().manual_seed(0)
    query, bank = (
        F.normalize(torch.randn(rows, DIM, generator=generator)).to(device)
        for rows in (QUERIES, ROWS)
    )
    bank = bank.to(dtype)
    own = torch.arange(QUERIES, device=device)
    label = torch.arange(ROWS, device=device) % 7
    every = query.double() @ bank.double().T
    for hidden in (Hidden(), Hidden(own, label, own % 7)):
        visible = every.clone()
        hidden.mask(visible, slice(0, None))
        expected, index = visible.topk(FOUND, dim=1)
        # Half of the thresholds let enough rows pass, a quarter too few, a quarter too many.
        threshold = expected[:, -1].float() - 0.01
        threshold[::4], threshold[1::4] = 2, -2
        counter = torch.zeros(1, dtype=torch.int64, device=device)
        kernels = devices.kernels()
        found, row = kernels.search(query, hidden, bank, FOUND, threshold, 3 * FOUND, counter)
        _compare('similarities', found.sort(dim=1, descending=True).values, expected)
        _compare('rows', found, every.gather(1, row))
        _compare(
            'repeated rows', (row.sort(dim=1).values.diff(dim=1) < 1).double(), every[:, :1] * 0
        )
        _compare('fallbacks', counter.double(), torch.full_like(counter, QUERIES // 2).double())
    _compare('products', kernels.gathered_products(query, bank, index), every.gather(1, index))
    sums = torch.bmm(expected[:, None], bank.double()[index]).squeeze(1)
    _compare('sums of rows', kernels.weighted_rows(expected.float(), bank, index), sums)


def _compare(what: str, found: Tensor, expected: Tensor | float) -> None:
    error = (found - expected).abs().max().item()
    if not error <= TOLERANCE:
        raise AssertionError(f'{what} are off by {error:.2g}')


def gpu_kernels(bank: Tensor) -> ModuleType | None:
    """The kernels where they can read a bank on a GPU and have proven right; None otherwise."""
    if not bank.is_cuda or devices.fused_obstacle(bank) or not proven(bank.device):
        return None
    return devices.kernels()
