"""Inner products in float32, whatever the storage type of the bank and the autocast mode."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Rows of a 16-bit bank that are upcast at a time: on the CPU and on other devices.
UPCAST_ROWS = 2**13
DEVICE_UPCAST_ROWS = 2**16


def disable_autocast(device: torch.device) -> AbstractContextManager:
    """Switch autocast off for operations on ``device``; a context manager."""
    if device.type not in ('cpu', 'cuda'):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def similarities(query: Tensor, bank: Tensor, rows: Tensor | None = None) -> Tensor:
    """Compute the inner products with all or some rows of the bank, ``(B, N)`` or ``(B, R)``.

    In float32 also under autocast, which does not change calls with ``out=``.
    """
    query = query.float()
    out = query.new_empty((len(query), len(bank) if rows is None else len(rows)))
    start = 0
    for block in upcast(bank, rows):
        torch.mm(query, block.T, out=out[:, start : start + len(block)])
        start += len(block)
    return out


def upcast(bank: Tensor, rows: Tensor | None = None) -> Iterator[Tensor]:
    """Yield the bank in float32: as it is, or block by block where it has to be copied."""
    step = UPCAST_ROWS if bank.device.type == 'cpu' else DEVICE_UPCAST_ROWS
    if rows is not None:
        return (bank.index_select(0, part).float() for part in rows.split(step))
    step = len(bank) if bank.dtype == torch.float32 else step
    return (bank[start : start + step].float() for start in range(0, len(bank), step))
