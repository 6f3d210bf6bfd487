"""Similarities with chosen rows of a bank and their gradient, as Triton kernels.

Each row is read once, forward and backward, and none is copied.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .triton_common import contiguous_rows, dim_options, load_rows

# Rows read at a time, rows that one program sums, and dimensions that a program holds.
BLOCK_ROWS, SUM_ROWS, BLOCK_DIM = 32, 512, 256


@triton.jit
def _products_kernel(
    query, bank, index, product, chosen, dim, parts, query_stride, bank_stride,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Multiply one query with some of its chosen rows."""
    part, own = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    place = part * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = place < chosen
    row = tl.load(index + own * chosen + place, mask=inside, other=0)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        left = tl.load(query + own * query_stride + column, mask=column < dim, other=0.0)
        rows = load_rows(bank, row, dim, bank_stride, start, inside, BLOCK_D, UNIT)
        total += tl.sum(rows.to(tl.float32) * left[None, :], axis=1)
    tl.store(product + own * chosen + place, total, mask=inside)


@triton.jit
def _sums_kernel(
    weight, bank, index, partial, chosen, dim, parts, bank_stride,
    ROWS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Sum some of the chosen rows of one query, each times its weight, over some dimensions."""
    part, own = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for start in range(0, ROWS, BLOCK_M):
        place = part * ROWS + start + tl.arange(0, BLOCK_M)
        inside = place < chosen
        row = tl.load(index + own * chosen + place, mask=inside, other=0)
        factor = tl.load(weight + own * chosen + place, mask=inside, other=0.0)
        first = tl.program_id(1) * BLOCK_D
        rows = load_rows(bank, row, dim, bank_stride, first, inside, BLOCK_D, UNIT)
        total += tl.sum(rows.to(tl.float32) * factor[:, None], axis=0)
    tl.store(partial + (own * parts + part) * dim + column, total, mask=column < dim)


def gathered_products(query: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """Compute ``query[b] . bank[index[b, j]]``, ``(B, M)`` float32; ``index`` is int64."""
    product = torch.empty(index.shape, dtype=torch.float32, device=bank.device)
    parts = triton.cdiv(index.size(1), BLOCK_ROWS)
    query, bank = query.float().contiguous(), contiguous_rows(bank)
    if product.numel():
        with torch.cuda.device_of(bank):
            _products_kernel[(len(index) * parts,)](
                query, bank, index.contiguous(), product,
                index.size(1), bank.size(1), parts, query.stride(0), bank.stride(0),
                BLOCK_M=BLOCK_ROWS, **dim_options(bank, BLOCK_DIM),
            )  # fmt: skip
    return product


def weighted_rows(weight: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """Compute ``sum_j weight[b, j] * bank[index[b, j]]``, ``(B, D)`` float32; deterministic.

    Several programs share the rows of a query; their sums are then added.
    """
    (queries, chosen), dim = index.shape, bank.size(1)
    parts = max(triton.cdiv(chosen, SUM_ROWS), 1)
    partial = torch.empty((queries, parts, dim), dtype=torch.float32, device=bank.device)
    bank = contiguous_rows(bank)
    options = dim_options(bank, BLOCK_DIM)
    # A grid must not be empty.
    if queries:
        with torch.cuda.device_of(bank):
            _sums_kernel[(queries * parts, triton.cdiv(dim, options['BLOCK_D']))](
                weight.float().contiguous(), bank, index.contiguous(), partial,
                chosen, dim, parts, bank.stride(0),
                ROWS=min(SUM_ROWS, triton.next_power_of_2(max(chosen, BLOCK_ROWS))),
                BLOCK_M=BLOCK_ROWS, **options,
            )  # fmt: skip
    return partial.sum(dim=1) if parts > 1 else partial[:, 0]


class GatheredSimilarity(Function):
    """The function of :func:`~mmselfsup_invp.ops.bank_similarity` on a GPU."""

    @staticmethod
    def forward(ctx, query: Tensor, bank: Tensor, index: Tensor, known: Tensor | None) -> Tensor:
        ctx.save_for_backward(bank, index)
        ctx.query_dtype = query.dtype
        return gathered_products(query, bank, index) if known is None else known.view_as(known)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        bank, index = ctx.saved_tensors
        return weighted_rows(grad, bank, index).to(ctx.query_dtype), None, None, None
