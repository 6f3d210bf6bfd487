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

# Of the pass over the bank: rows that a program multiplies with the queries, as many as the bits
# that tell which of them have passed.
ROW_BLOCK = 64
# Queries, times the bytes of a number: the most that let three or four programs share the
# registers of each processor of an H100 (seen by compiling).
QUERY_BYTES = 256
# Bytes of a row that are multiplied at a time.
ROW_BYTES = 128
SIFT_WARPS, SIFT_STAGES = 4, 2
# How float32 numbers are multiplied: without rounding them. 'tf32x3', on tensor cores, is nearly as
# precise; which is faster has not been measured.
FLOAT32_PRODUCTS = 'ieee'
# Rows and dimensions that a program of the exact selection reads at a time.
SETTLE_BLOCK, SETTLE_DIM, SETTLE_WARPS = 256, 64, 8
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
def _ones(bits):
    """Count the ones among 64 bits, in the way that compilers turn into an instruction."""
    bits -= (bits >> 1) & 0x5555555555555555
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((bits * 0x0101010101010101) >> 56).to(tl.int32)


@triton.jit
def _packed(flags, inside, BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr):
    """The flags of each row as the bits of one number, from words of 32; zero outside."""
    column = tl.arange(0, BLOCK_N)
    bits = tl.zeros((BLOCK_Q,), dtype=tl.uint64)
    for word in tl.static_range(BLOCK_N // 32):
        bit = tl.where(inside & (column // 32 == word), 1 << (column % 32), 0)
        part = tl.sum(tl.where(flags, bit[None, :], 0), axis=1)
        bits |= part.to(tl.uint32, bitcast=True).to(tl.uint64) << (32 * word)
    return bits


@triton.jit
def _sift_kernel(
    query, scale, bank, threshold, exclude, bank_label, query_label, value, index, count,
    queries, rows, dim, query_stride, bank_stride, width,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write down the rows of one tile of the bank that reach the thresholds of some queries."""
    # Programs that share a tile are neighbours, so that all but the first find it in the cache.
    groups = tl.cdiv(queries, BLOCK_Q)
    own = (tl.program_id(0) % groups) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    start_row, column = (tl.program_id(0) // groups) * BLOCK_N, tl.arange(0, BLOCK_N)
    row = start_row + column
    is_query, is_row = own < queries, row < rows

    score = tl.zeros((BLOCK_Q, BLOCK_N), dtype=tl.float32)
    steps = tl.cdiv(dim, BLOCK_D)
    # One product for all parts: between two in one loop Triton 3.6 forgets to wait on some GPUs
    # (triton-lang/triton issue 10821).
    for step in range(PARTS * steps):
        part = step // steps
        start = (step - part * steps) * BLOCK_D
        left = _load_rows(query + part * dim, own, dim, query_stride, start, is_query, BLOCK_D)
        right = _load_rows(bank, row, dim, bank_stride, start, is_row, BLOCK_D)
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        score = tl.dot(left, tl.trans(right), score, input_precision=PRECISION)

    limit = tl.load(threshold + own, mask=is_query, other=float('inf'))
    if scale is not None:
        factor = tl.load(scale + own, mask=is_query, other=1.0)
        limit /= factor
    # NaN passes, since topk ranks it first.
    passes = ~(score < limit[:, None])
    if bank_label is not None:
        hidden = tl.load(bank_label + row, mask=is_row, other=0)
        passes &= hidden[None, :] != tl.load(query_label + own, mask=is_query, other=0)[:, None]

    bits = tl.where(is_query, _packed(passes, is_row, BLOCK_Q, BLOCK_N), 0)
    if exclude is not None:
        barred = tl.load(exclude + own, mask=is_query, other=-1) - start_row
        bit = tl.full((BLOCK_Q,), 1, tl.uint64) << (barred & (BLOCK_N - 1)).to(tl.uint64)
        bits &= ~tl.where((barred >= 0) & (barred < BLOCK_N), bit, 0)

    # Room for all of the tile is reserved at once. Few rows pass: each round writes down the first
    # that is left of each query, which takes less than a place for every entry of the tile.
    passed = _ones(bits)
    place = tl.atomic_add(count + own, passed, mask=passed > 0, sem='relaxed')
    room = own.to(tl.int64) * width
    bits = tl.where(place < width, bits, 0)
    while tl.max((bits > 0).to(tl.int32), axis=0) > 0:
        first = _ones((bits - 1) & ~bits)
        found = tl.sum(tl.where(column[None, :] == first[:, None], score, 0.0), axis=1)
        if scale is not None:
            found *= factor
        kept = (bits > 0) & (place < width)
        tl.store(value + room + place, found, mask=kept)
        tl.store(index + room + place, start_row + first, mask=kept)
        bits &= bits - 1
        place += 1


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
    query, bank, exclude, bank_label, query_label, threshold, count, similarity, index, fallbacks,
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
    # Where no row was kept back there are no more.
    wrong = (passed < m) & (tl.load(threshold + own) > float('-inf'))
    if passed > width:
        # Nothing ranks above NaN, which is all that a query that holds one has found.
        numbers = 0
        for start in range(0, m, BLOCK_N):
            place = start + tl.arange(0, BLOCK_N)
            found = tl.load(similarity + own * m + place, mask=place < m, other=float('nan'))
            numbers += tl.sum((found == found).to(tl.int32), axis=0)
        wrong = numbers > 0
    if wrong:
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
                    histogram += tl.histogram(own_digit, 256, mask=counted)
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
    """Queries as numbers of the type of a bank: the sum of one or two parts, times ``scale``."""

    # (B, D) or, both parts side by side, (B, 2 * D).
    parts: Tensor
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
    bank = without_gaps(bank)
    value, row, count = sift(factors(query, bank.dtype), bank, threshold, hidden, width)
    similarity, kept = value.topk(m, dim=1, sorted=False)
    index = row.gather(1, kept).long()
    query = query.float().contiguous()
    settle(query, bank, hidden, threshold, count, width, similarity, index, fallbacks)
    return similarity, index


def factors(query: Tensor, dtype: torch.dtype) -> Factors:
    """Write queries as numbers of the type of a bank, which tensor cores multiply with it.

    One number of 16 bits would round them more than the bank is; the sum of two is off by 2**-22
    (float16) or 2**-16 (bfloat16) of the largest entry at most. That entry is divided out, so that
    none leaves the range of float16.

    Args:
        query (Tensor): Float, shape ``(B, D)``.
        dtype (torch.dtype): Of the bank: float32, float16 or bfloat16.

    Returns:
        Factors: Queries of the type of the bank, and those of a float32 bank, as they are.

    Example:
        >>> parts, scale = factors(torch.tensor([[30000.0, 10000.0]]), torch.float16)
        >>> scale
        tensor([30000.])
        >>> parts.float().view(2, 2).sum(dim=0) * scale
        tensor([30000.0000, 10000.0010])
    """
    if dtype in (torch.float32, query.dtype):
        return Factors(query.to(dtype).contiguous())
    query = query.float()
    scale = query.abs().amax(dim=1)
    scale = torch.where(scale > 0, scale, 1)
    query = query / scale[:, None]
    rounded = query.to(dtype)
    rest = (query - rounded.float()).to(dtype)
    return Factors(torch.cat([rounded, rest], dim=1), scale)


def sift(
    factors: Factors, bank: Tensor, threshold: Tensor, hidden: Hidden, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the rows of the bank whose product with a query reaches its threshold.

    Args:
        factors (Factors): The queries.
        bank (Tensor): float32, float16 or bfloat16, shape ``(N, D)``, rows without gaps. Products
            are summed in float32; float32 numbers are not rounded.
        threshold (Tensor): float32, shape ``(B,)``. What is NaN reaches it, and all reach NaN.
        hidden (Hidden): What each query must not find.
        width (int): How many rows of the bank there is room for; the count may be higher.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Similarity, float32, -inf where nothing was filled in, and
        row, int32, both ``(B, width)`` and in any order, and how many have passed, int32, ``(B,)``.
    """
    parts = factors.parts
    queries, size = len(parts), bank.element_size()
    value = threshold.new_full((queries, width), -torch.inf)
    index = torch.zeros_like(value, dtype=torch.int32)
    count = torch.zeros_like(threshold, dtype=torch.int32)
    block = min(QUERY_BYTES // size, max(triton.next_power_of_2(queries), 16))
    programs = triton.cdiv(queries, block) * triton.cdiv(len(bank), ROW_BLOCK)
    with torch.cuda.device_of(bank):
        _sift_kernel[(programs,)](
            *factors, bank, threshold, *_tensors(hidden), value, index, count,
            queries, *bank.shape, parts.stride(0), bank.stride(0), width,
            PRECISION=FLOAT32_PRODUCTS,
            WIDEN=INTERPRETED and bank.dtype == torch.bfloat16,
            PARTS=parts.size(1) // bank.size(1),
            BLOCK_Q=block, BLOCK_N=ROW_BLOCK, BLOCK_D=_dim_block(bank, ROW_BYTES // size),
            num_warps=SIFT_WARPS, num_stages=SIFT_STAGES,
        )  # fmt: skip
    return value, index, count


def settle(
    query: Tensor, bank: Tensor, hidden: Hidden, threshold: Tensor, count: Tensor, width: int,
    similarity: Tensor, index: Tensor, fallbacks: Tensor,
) -> None:  # fmt: skip
    """Overwrite the results of queries whose sieve let too few or too many rows pass, in place.

    Too few are right where the threshold is -inf, which keeps no row back, and too many where all
    that was found is NaN.

    Args:
        query (Tensor): float32, shape ``(B, D)``, rows without gaps.
        bank, hidden, threshold, width: As for :func:`sift`.
        count (Tensor): int32, shape ``(B,)``, how many rows have passed.
        similarity (Tensor): float32, shape ``(B, m)``.
        index (Tensor): int64, shape ``(B, m)``.
        fallbacks (Tensor): int64, shape ``(1,)``, grows by the number of such queries.
    """
    with torch.cuda.device_of(bank):
        _settle_kernel[(len(query),)](
            query, bank, *_tensors(hidden), threshold, count, similarity, index, fallbacks,
            *bank.shape, query.stride(0), bank.stride(0), width, similarity.size(1),
            BLOCK_N=SETTLE_BLOCK, BLOCK_D=_dim_block(bank, SETTLE_DIM), num_warps=SETTLE_WARPS,
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
