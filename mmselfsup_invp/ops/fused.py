"""The steps of the search and of its gradient as Triton kernels, for GPUs.

Needs Triton, which PyTorch for CUDA brings along; import it through :mod:`.devices`, which tells
whether it can be used. With ``TRITON_INTERPRET=1`` in the environment before Triton is imported the
kernels run on the CPU, slowly: that is how they are tested without a GPU.

One pass over the bank multiplies a tile of it with the queries, compares the products with a
threshold for each query and writes down what passes; ``topk`` then gets a small part of the bank.
The host never waits for the device: where a threshold turns out wrong, the device itself selects
anew (:func:`_settle_kernel`).
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .blocks import Found, Hidden

# Of the pass over the bank: queries, rows and dimensions that a program multiplies at a time.
# These are the largest whose numbers all fit into the registers of an H100 (seen by compiling).
QUERY_BLOCK, ROW_BLOCK = 128, 64
# Bytes of a row that are multiplied at a time.
ROW_BYTES = 128
# How float32 numbers are multiplied: without rounding them. 'tf32x3', on tensor cores, is nearly as
# precise; which is faster has not been measured.
FLOAT32_PRODUCTS = 'ieee'
# Rows that a program of the exact selection compares at a time.
SETTLE_BLOCK = 64
# Of the weighted sums: rows read at a time, and rows that one program sums.
GATHER_BLOCK, GATHER_ROWS = 32, 512
# Dimensions of the gathered rows that a program holds.
GATHER_DIM = 256


@triton.jit
def _load_rows(rows, row, dim, row_stride, start, inside, BLOCK_D: tl.constexpr):
    """Some dimensions of some rows of a matrix, ``(rows, BLOCK_D)``, zero outside."""
    column = start + tl.arange(0, BLOCK_D)
    place = row.to(tl.int64)[:, None] * row_stride + column[None, :]
    return tl.load(rows + place, mask=inside[:, None] & (column < dim)[None, :], other=0.0)


@triton.jit
def _sift_kernel(
    query, rest, scale, bank, threshold, exclude, bank_label, query_label, value, index, count,
    queries, rows, dim, query_stride, bank_stride, width,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write down the rows of one tile of the bank that reach the thresholds of some queries."""
    # Programs that share a tile are neighbours, so that all but the first find it in the cache.
    groups = tl.cdiv(queries, BLOCK_Q)
    own = (tl.program_id(0) % groups) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    row = (tl.program_id(0) // groups) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_query, is_row = own < queries, row < rows

    score = tl.zeros((BLOCK_Q, BLOCK_N), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        left = _load_rows(query, own, dim, query_stride, start, is_query, BLOCK_D)
        right = _load_rows(bank, row, dim, bank_stride, start, is_row, BLOCK_D)
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        score = tl.dot(left, tl.trans(right), score, input_precision=PRECISION)
        if rest is not None:
            left = _load_rows(rest, own, dim, query_stride, start, is_query, BLOCK_D)
            if WIDEN:
                left = left.to(tl.float32)
            score = tl.dot(left, tl.trans(right), score)
    if scale is not None:
        score *= tl.load(scale + own, mask=is_query, other=0.0)[:, None]

    passes = score >= tl.load(threshold + own, mask=is_query, other=float('inf'))[:, None]
    passes &= is_query[:, None] & is_row[None, :]
    if exclude is not None:
        barred = tl.load(exclude + own, mask=is_query, other=-1).to(tl.int32)
        passes &= barred[:, None] != row[None, :]
    if bank_label is not None:
        hidden = tl.load(bank_label + row, mask=is_row, other=0)
        passes &= hidden[None, :] != tl.load(query_label + own, mask=is_query, other=0)[:, None]

    # Room for all of the tile is reserved at once; there the rows keep their order.
    passing = passes.to(tl.int32)
    passed = tl.sum(passing, axis=1)
    first = tl.atomic_add(count + own, passed, mask=is_query & (passed > 0), sem='relaxed')
    place = first[:, None] + tl.cumsum(passing, axis=1) - 1
    kept = passes & (place < width)
    room = own.to(tl.int64)[:, None] * width
    tl.store(value + room + place, score, mask=kept)
    tl.store(index + room + place, tl.broadcast_to(row[None, :], (BLOCK_Q, BLOCK_N)), mask=kept)


@triton.jit
def _ranked(
    query, bank, exclude, bank_label, query_label, own, row, rows, dim,
    query_stride, bank_stride, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Scores of one query with some rows, and integers in their order: NaN highest, as in topk."""
    is_row = row < rows
    score = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        left = tl.load(query + own * query_stride + column, mask=column < dim, other=0.0)
        right = _load_rows(bank, row, dim, bank_stride, start, is_row, BLOCK_D)
        score += tl.sum(right.to(tl.float32) * left[None, :], axis=1)
    hidden = row < 0
    if exclude is not None:
        hidden |= tl.load(exclude + own) == row
    if bank_label is not None:
        label = tl.load(bank_label + row, mask=is_row, other=0)
        hidden |= label == tl.load(query_label + own)
    score = tl.where(hidden, float('-inf'), score)
    # The bits of a positive number are in its order; those of a negative one the other way round.
    bits = tl.where(score == score, score.to(tl.int32, bitcast=True), 0x7FFFFFFF)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return score, ordered.to(tl.uint32, bitcast=True) ^ 0x80000000


@triton.jit
def _settle_kernel(
    query, bank, exclude, bank_label, query_label, count, similarity, index, fallbacks,
    rows, dim, query_stride, bank_stride, width, m,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Select the ``m`` highest of one query from all rows, if its threshold was a bad one.

    Too few rows have passed it, or more than there was room for. The score of rank ``m`` is found
    eight bits at a time from the counts of what they can be; a last pass collects what is above
    it and as many of its equals as are missing.
    """
    own = tl.program_id(0).to(tl.int64)
    passed = tl.load(count + own)
    if (passed < m) | (passed > width):
        tl.atomic_add(fallbacks, 1)
        digit = tl.arange(0, 256)
        prefix = tl.full((), 0, tl.uint32)
        missing = tl.full((), 0, tl.int32) + m
        filled = tl.full((), 0, tl.int32)
        equals = tl.full((), 0, tl.int32)
        # One loop for all passes: compiled twice, the same sum could be rounded in two ways.
        for step in range(5):
            shift = tl.maximum(24 - 8 * step, 0)
            histogram = tl.zeros((256,), dtype=tl.int32)
            for start in range(0, rows, BLOCK_N):
                row = start + tl.arange(0, BLOCK_N)
                score, key = _ranked(
                    query, bank, exclude, bank_label, query_label, own, row, rows, dim,
                    query_stride, bank_stride, BLOCK_N, BLOCK_D,
                )  # fmt: skip
                if step < 4:
                    # Twice, since a shift by all 32 bits is not defined.
                    counted = ((key >> shift) >> 8) == ((prefix >> shift) >> 8)
                    counted &= row < rows
                    own_digit = ((key >> shift) & 255).to(tl.int32)
                    equal = (own_digit[:, None] == digit[None, :]) & counted[:, None]
                    histogram += tl.sum(equal.to(tl.int32), axis=0)
                else:
                    is_equal = ((key == prefix) & (row < rows)).to(tl.int32)
                    earlier = equals + tl.cumsum(is_equal, axis=0)
                    kept = (key > prefix) | ((is_equal > 0) & (earlier <= missing))
                    kept &= row < rows
                    place = filled + tl.cumsum(kept.to(tl.int32), axis=0) - 1
                    tl.store(similarity + own * m + place, score, mask=kept & (place < m))
                    tl.store(index + own * m + place, row.to(tl.int64), mask=kept & (place < m))
                    equals += tl.sum(is_equal, axis=0)
                    filled += tl.sum(kept.to(tl.int32), axis=0)
            if step < 4:
                above = tl.sum(histogram, axis=0) - tl.cumsum(histogram, axis=0)
                chosen = tl.max(tl.where(above + histogram >= missing, digit, 0), axis=0)
                missing -= tl.sum(tl.where(digit == chosen, above, 0), axis=0)
                prefix |= chosen.to(tl.uint32) << shift


@triton.jit
def _weighted_rows_kernel(
    weight, bank, index, partial, chosen, dim, parts, bank_stride,
    ROWS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Sum some of the rows chosen by one query, each times its weight, over some dimensions."""
    part, own = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for start in range(0, ROWS, BLOCK_M):
        place = part * ROWS + start + tl.arange(0, BLOCK_M)
        inside = place < chosen
        row = tl.load(index + own * chosen + place, mask=inside, other=0)
        factor = tl.load(weight + own * chosen + place, mask=inside, other=0.0)
        rows = _load_rows(bank, row, dim, bank_stride, tl.program_id(1) * BLOCK_D, inside, BLOCK_D)
        total += tl.sum(rows.to(tl.float32) * factor[:, None], axis=0)
    tl.store(partial + (own * parts + part) * dim + column, total, mask=column < dim)


@triton.jit
def _gathered_kernel(
    query, bank, index, product, chosen, dim, parts, query_stride, bank_stride,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Multiply one query with some of the rows chosen by it."""
    part, own = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    place = part * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = place < chosen
    row = tl.load(index + own * chosen + place, mask=inside, other=0)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        left = tl.load(query + own * query_stride + column, mask=column < dim, other=0.0)
        rows = _load_rows(bank, row, dim, bank_stride, start, inside, BLOCK_D)
        total += tl.sum(rows.to(tl.float32) * left[None, :], axis=1)
    tl.store(product + own * chosen + place, total, mask=inside)


# The kernels of a process that interprets are no compiled functions. Its products of bfloat16 are
# wrong (Triton 3.6), so there they are widened first.
INTERPRETED = not isinstance(_sift_kernel, triton.JITFunction)


class Factors(NamedTuple):
    """Queries as numbers of the type of a bank: ``(query + rest) * scale``, ``(B, D)`` each."""

    query: Tensor
    rest: Tensor | None = None
    scale: Tensor | None = None


def search(
    query: Tensor, hidden: Hidden, bank: Tensor, m: int, threshold: Tensor, width: int,
    fallbacks: Tensor,
) -> Found:  # fmt: skip
    """Find the ``m`` rows most similar to each query, in any order; the host never waits.

    Exact whatever the thresholds are, of which depends how long it takes.

    Args:
        query (Tensor): Float, shape ``(B, D)``, at least one.
        hidden (Hidden): What each query must not find.
        bank (Tensor): float32, float16 or bfloat16, shape ``(N, D)``.
        m (int): 1 to the rows that a query may find.
        threshold (Tensor): float32, shape ``(B,)``: what somewhat more than ``m`` rows reach.
        width (int): How many rows that reach it there is room for, at least ``m``.
        fallbacks (Tensor): int64, shape ``(1,)``, grows by the number of queries whose threshold
            was too high or too low.

    Returns:
        Found: Similarity, float32, and row, int64, both ``(B, m)``.
    """
    query, bank = query.float().contiguous(), without_gaps(bank)
    value, row, count = sift(factors(query, bank.dtype), bank, threshold, hidden, width)
    similarity, kept = value.topk(m, dim=1, sorted=False)
    index = row.gather(1, kept).long()
    settle(query, bank, hidden, count, width, similarity, index, fallbacks)
    return similarity, index


def factors(query: Tensor, dtype: torch.dtype) -> Factors:
    """Write queries as numbers of the type of a bank, which tensor cores multiply with it.

    One number of 16 bits would round them more than the bank is; the sum of two is off by 2**-22
    (float16) or 2**-16 (bfloat16) of the largest entry at most. That entry is divided out, so that
    none leaves the range of float16.

    Args:
        query (Tensor): float32, shape ``(B, D)``, rows without gaps.
        dtype (torch.dtype): Of the bank: float32, float16 or bfloat16.

    Returns:
        Factors: float32 queries as they are.

    Example:
        >>> query, rest, scale = factors(torch.tensor([[30000.0, 10000.0]]), torch.float16)
        >>> scale
        tensor([30000.])
        >>> (query.float() + rest.float()) * scale
        tensor([[30000.0000, 10000.0010]])
    """
    if dtype == torch.float32:
        return Factors(query)
    scale = query.abs().amax(dim=1)
    scale = torch.where(scale > 0, scale, 1)
    query = query / scale[:, None]
    rounded = query.to(dtype)
    return Factors(rounded, (query - rounded.float()).to(dtype), scale)


def sift(
    factors: Factors, bank: Tensor, threshold: Tensor, hidden: Hidden, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the rows of the bank whose product with a query reaches its threshold.

    Args:
        factors (Factors): The queries.
        bank (Tensor): float32, float16 or bfloat16, shape ``(N, D)``, rows without gaps. Products
            are summed in float32; float32 numbers are not rounded.
        threshold (Tensor): float32, shape ``(B,)``. A NaN reaches none.
        hidden (Hidden): What each query must not find.
        width (int): How many rows of the bank there is room for; the count may be higher.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Similarity, float32, -inf where nothing was filled in, and
        row, int32, both ``(B, width)`` and in any order, and how many have passed, int32, ``(B,)``.
    """
    queries, stride = len(factors.query), factors.query.stride(0)
    value = threshold.new_full((queries, width), -torch.inf)
    index = torch.zeros_like(value, dtype=torch.int32)
    count = torch.zeros_like(threshold, dtype=torch.int32)
    block = min(QUERY_BLOCK, max(triton.next_power_of_2(queries), 16))
    programs = triton.cdiv(queries, block) * triton.cdiv(len(bank), ROW_BLOCK)
    with torch.cuda.device_of(bank):
        _sift_kernel[(programs,)](
            *factors, bank, threshold, *_tensors(hidden), value, index, count,
            queries, *bank.shape, stride, bank.stride(0), width,
            PRECISION=FLOAT32_PRODUCTS,
            WIDEN=INTERPRETED and bank.dtype == torch.bfloat16,
            BLOCK_Q=block, BLOCK_N=ROW_BLOCK,
            BLOCK_D=_dim_block(bank, ROW_BYTES // bank.element_size()),
            num_warps=8 if block == QUERY_BLOCK else 4,
        )  # fmt: skip
    return value, index, count


def settle(
    query: Tensor, bank: Tensor, hidden: Hidden, count: Tensor, width: int,
    similarity: Tensor, index: Tensor, fallbacks: Tensor,
) -> None:  # fmt: skip
    """Overwrite the results of queries whose sieve let too few or too many rows pass, in place.

    Args:
        query (Tensor): float32, shape ``(B, D)``, rows without gaps.
        bank, hidden, width: As for :func:`sift`.
        count (Tensor): int32, shape ``(B,)``, how many rows have passed.
        similarity (Tensor): float32, shape ``(B, m)``.
        index (Tensor): int64, shape ``(B, m)``.
        fallbacks (Tensor): int64, shape ``(1,)``, grows by the number of such queries.
    """
    with torch.cuda.device_of(bank):
        _settle_kernel[(len(query),)](
            query, bank, *_tensors(hidden), count, similarity, index, fallbacks,
            *bank.shape, query.stride(0), bank.stride(0), width, similarity.size(1),
            BLOCK_N=SETTLE_BLOCK, BLOCK_D=_dim_block(bank, SETTLE_BLOCK), num_warps=8,
        )  # fmt: skip


def gathered_products(query: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """``query[b] . bank[index[b, j]]`` in float32; each row is read once and none is copied.

    Args:
        query (Tensor): Float, shape ``(B, D)``.
        bank (Tensor): float32, float16 or bfloat16, shape ``(N, D)``.
        index (Tensor): int64, shape ``(B, M)``.

    Returns:
        Tensor: float32, shape ``(B, M)``.
    """
    product = torch.empty(index.shape, dtype=torch.float32, device=bank.device)
    parts = triton.cdiv(index.size(1), GATHER_BLOCK)
    query, bank = query.float().contiguous(), without_gaps(bank)
    if product.numel():
        with torch.cuda.device_of(bank):
            _gathered_kernel[(len(index) * parts,)](
                query, bank, index.contiguous(), product,
                index.size(1), bank.size(1), parts, query.stride(0), bank.stride(0),
                BLOCK_M=GATHER_BLOCK, BLOCK_D=_dim_block(bank, GATHER_DIM),
            )  # fmt: skip
    return product


def weighted_rows(weight: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """``sum_j weight[b, j] * bank[index[b, j]]`` in float32, the same in every run.

    Reads each row once. A query's rows are shared among programs, whose sums are then added.

    Args:
        weight (Tensor): Float, shape ``(B, M)``.
        bank (Tensor): Float, shape ``(N, D)``.
        index (Tensor): int64, shape ``(B, M)``.

    Returns:
        Tensor: float32, shape ``(B, D)``.
    """
    queries, chosen = index.shape
    dim = bank.size(1)
    parts = max(triton.cdiv(chosen, GATHER_ROWS), 1)
    partial = torch.empty((queries, parts, dim), dtype=torch.float32, device=bank.device)
    bank = without_gaps(bank)
    block = _dim_block(bank, GATHER_DIM)
    # No program can be started for no query.
    if queries:
        with torch.cuda.device_of(bank):
            _weighted_rows_kernel[(queries * parts, triton.cdiv(dim, block))](
                weight.float().contiguous(), bank, index.contiguous(), partial,
                chosen, dim, parts, bank.stride(0),
                ROWS=min(GATHER_ROWS, triton.next_power_of_2(max(chosen, GATHER_BLOCK))),
                BLOCK_M=GATHER_BLOCK, BLOCK_D=block,
            )  # fmt: skip
    return partial.sum(dim=1)


def without_gaps(bank: Tensor) -> Tensor:
    """The bank itself, or a copy if the entries of its rows do not stand side by side."""
    return bank if bank.stride(1) == 1 else bank.contiguous()


def _dim_block(bank: Tensor, most: int) -> int:
    """Dimensions at a time: a power of two, as Triton needs it, and 16 for its products."""
    return min(most, max(triton.next_power_of_2(bank.size(1)), 16))


def _tensors(hidden: Hidden) -> tuple[Tensor | None, ...]:
    values = hidden.exclude, hidden.bank_label, hidden.query_label
    return tuple(None if part is None else part.contiguous() for part in values)
