"""What the Triton kernels of the search and of its gradient share."""

import math

import triton
import triton.language as tl
from torch import Tensor

from .request import Request


@triton.jit
def load_rows(
    rows, row, dim, row_stride, start, inside, BLOCK_D: tl.constexpr, UNIT: tl.constexpr
):  # fmt: skip
    """Load some dimensions of some rows of a matrix, ``(rows, BLOCK_D)``, zero outside.

    ``UNIT`` divides the dimensions and the stride, and tells the compiler how wide a load can be.
    """
    column = start + tl.arange(0, BLOCK_D)
    place = row.to(tl.int64)[:, None] * (row_stride // UNIT * UNIT) + column[None, :]
    is_column = column < dim // UNIT * UNIT
    return tl.load(rows + place, mask=inside[:, None] & is_column[None, :], other=0.0)


# With TRITON_INTERPRET=1 the kernels are no compiled functions.
INTERPRETED = not isinstance(load_rows, triton.JITFunction)


def contiguous_rows(bank: Tensor) -> Tensor:
    """Return the bank itself, or a copy if the entries of its rows are not contiguous."""
    return bank if bank.stride(1) == 1 else bank.contiguous()


def dim_options(bank: Tensor, most: int) -> dict[str, int]:
    """Return how many dimensions a kernel reads at a time, and the unit of its loads.

    Both are powers of two; the products need 16 dimensions. Where the unit is 1, each number has an
    address of its own, and more dimensions at a time would exceed the registers.
    """
    unit = math.gcd(bank.size(1), bank.stride(0), 16)
    most = most if unit > 1 else max(most // 4, 16)
    return dict(BLOCK_D=min(most, max(triton.next_power_of_2(bank.size(1)), 16)), UNIT=unit)


def hidden_rows(request: Request) -> dict[str, Tensor | None]:
    """Return the arguments of the kernels that say which rows a query must not find."""
    query_label, bank_label = request.labels or (None, None)
    hidden = dict(exclude=request.exclude, query_label=query_label, bank_label=bank_label)
    return {name: None if part is None else part.contiguous() for name, part in hidden.items()}
