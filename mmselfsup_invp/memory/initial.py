"""Initial rows of banks and queues."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Choice, check_option


def _unit(length: int, dim: int, generator: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(length, dim, generator=generator), dim=1)


def _uniform(length: int, dim: int, generator: torch.Generator) -> Tensor:
    bound = (3 / dim) ** 0.5  # The expected squared norm of a row is 1.
    return (torch.rand(length, dim, generator=generator) * 2 - 1) * bound


INITIAL_ROWS = {'unit': _unit, 'uniform': _uniform}
# Rows that one generator draws, and the distance between the seeds of two such blocks. Generators
# on the CPU use the lower 32 bits of a seed.
BLOCK_ROWS = 2**16
SEED_STEP = 0x9E3779B1
DTYPES = {name: getattr(torch, name) for name in ('float32', 'float16', 'bfloat16')}
InitialRows = Annotated[str, Choice(INITIAL_ROWS)]
RowType = Annotated[str, Choice(DTYPES)]


def initial_rows(
    length: int, dim: int, init: str = 'unit', seed: int = 0, part: slice | None = None
) -> Tensor:
    """Draw the initial rows of a bank on the CPU, without the global generator.

    Every 65,536 rows have a generator of their own, so that a part costs no more than its size.

    Args:
        length (int): N.
        dim (int): D.
        init (str): ``'unit'``: random unit vectors (`InvP <https://arxiv.org/abs/2010.11694>`_);
            ``'uniform'``: entries from U(-a, a) with a = sqrt(3 / D), not normalised (its official
            code). Defaults to ``'unit'``.
        seed (int): Seed of the generators. Defaults to 0.
        part (slice, optional): Rows to draw. Defaults to None: all N.

    Returns:
        Tensor: float32, shape ``(N, D)``, or the rows of the part.
    """
    check_option('initial_rows', 'init', init, InitialRows)
    part = slice(0, length) if part is None else part
    rows = torch.empty(part.stop - part.start, dim)
    for block in range(part.start // BLOCK_ROWS, -(-part.stop // BLOCK_ROWS)):
        first = block * BLOCK_ROWS
        generator = torch.Generator().manual_seed((seed + block * SEED_STEP) % 2**32)
        drawn = INITIAL_ROWS[init](min(BLOCK_ROWS, length - first), dim, generator)
        begin, end = max(part.start, first), min(part.stop, first + len(drawn))
        rows[begin - part.start : end - part.start] = drawn[begin - first : end - first]
    return rows


def storage_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Type of the stored rows by its name; ``ValueError`` for others."""
    name = str(dtype).removeprefix('torch.')
    check_option('storage_dtype', 'dtype', name, RowType)
    return DTYPES[name]
