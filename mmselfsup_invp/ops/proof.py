"""Whether the Triton kernels give on a GPU what PyTorch gives there.

Compilers and drivers differ, and a wrong neighbour would spoil a month of training without a sign.
So the kernels are tried on small problems, once for each GPU and type of bank of a process, before
anything relies on them.
"""

import functools
import warnings
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import devices
from .blocks import Hidden


class Trial(NamedTuple):
    """One search: how many queries, rows of the bank, dimensions and rows to find.

    ``stored`` queries are rows of the bank as it stores them, of which each must not find itself;
    with ``labels`` rows are hidden by them as well.
    """

    queries: int
    rows: int
    dim: int
    found: int
    stored: bool = False
    labels: bool = False


# The programs that training runs: of the objective, of the graph and of the inter branch. They end
# within a block of queries, of rows and (the last) of dimensions.
TRIALS = (
    Trial(130, 30_011, 128, 520),
    Trial(130, 30_011, 128, 20, stored=True),
    Trial(30, 3001, 72, 150, labels=True),
)
# Of similarities of unit rows; what 16-bit queries lose is below.
TOLERANCE = 1e-4
# Of the thresholds below what is looked for, and times as many rows as are looked for.
MARGIN, ROOM = 0.01, 3


@functools.cache
def proven(device: torch.device, dtype: torch.dtype) -> bool:
    """Try the kernels on a device; where they fail or err, warn, and tell to leave them alone.

    Args:
        device (torch.device): Where they would run. On a CPU, where they are interpreted for tests,
            they are believed.
        dtype (torch.dtype): Of the bank that they would read.

    Returns:
        bool: Whether they have given what PyTorch gives.
    """
    if device.type == 'cpu':
        return True
    try:
        for trial in TRIALS:
            try_kernels(trial, device, dtype)
    except Exception as error:  # Compilers and drivers fail in any way.
        warnings.warn(
            f'The Triton kernels of mmselfsup_invp do not work on {device} for {dtype} ({error}); '
            'PyTorch searches instead, which gives the same and takes longer. Please report this, '
            f'with the versions: torch {torch.__version__}, CUDA {torch.version.cuda}.',
            stacklevel=2,
        )
        return False
    return True


@torch.no_grad()
def try_kernels(trial: Trial, device: torch.device, dtype: torch.dtype) -> None:
    """Search with thresholds of which some mislead, and read rows, each against PyTorch.

    Raises:
        AssertionError: If a result differs.
    """
    query, bank, hidden = _problem(trial, device, dtype)
    every = query.double() @ bank.double().T
    visible = every.clone()
    hidden.mask(visible, slice(0, None))
    expected, index = visible.topk(trial.found, dim=1)
    # Half of the thresholds let enough rows pass, a quarter too few, a quarter too many.
    threshold = expected[:, -1].float() - MARGIN
    threshold[::4], threshold[1::4] = 2, -2
    misled = len(threshold[::4]) + len(threshold[1::4])
    counter = torch.zeros(1, dtype=torch.int64, device=device)
    kernels = devices.kernels()
    width = ROOM * trial.found
    found, row = kernels.search(query, hidden, bank, trial.found, threshold, width, counter)
    _compare('similarities', found.sort(dim=1, descending=True).values, expected)
    _compare('rows', found, every.gather(1, row))
    _compare('repeated rows', (row.sort(dim=1).values.diff(dim=1) < 1).double(), every[:, :1] * 0)
    _compare('fallbacks', counter.double(), torch.full_like(counter, misled).double())
    _compare('products', kernels.gathered_products(query, bank, index), every.gather(1, index))
    sums = torch.bmm(expected[:, None], bank.double()[index]).squeeze(1)
    _compare('sums of rows', kernels.weighted_rows(expected.float(), bank, index), sums)


def _problem(
    trial: Trial, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Hidden]:
    """Queries, a bank of unit rows, and what is hidden."""
    generator = torch.Generator().manual_seed(0)
    query, bank = (
        F.normalize(torch.randn(rows, trial.dim, generator=generator)).to(device)
        for rows in (trial.queries, trial.rows)
    )
    bank = bank.to(dtype)
    own = torch.arange(trial.queries, device=device)
    label = torch.arange(trial.rows, device=device) % 7
    hidden = Hidden(own) if trial.stored else Hidden()
    if trial.labels:
        hidden = Hidden(own, label, own % 7)
    return bank[: trial.queries] if trial.stored else query, bank, hidden


def _compare(what: str, found: Tensor, expected: Tensor | float) -> None:
    error = (found - expected).abs().max().item()
    if not error <= TOLERANCE:
        raise AssertionError(f'{what} are off by {error:.2g}')


def gpu_kernels(bank: Tensor) -> ModuleType | None:
    """The kernels where they can read a bank on a GPU and have proven right; None otherwise."""
    if not bank.is_cuda or devices.fused_obstacle(bank) or not proven(bank.device, bank.dtype):
        return None
    return devices.kernels()
