"""The second search of a GPU: ranks all rows for queries whose threshold was misleading.

The threshold of a query is misleading where too few rows pass it, or more than its buffer holds.
Which queries these are is known on the device only, so the kernels are always launched; they end at
once where there are none. All programs share the rows of each query.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .request import Neighbours, Request
from .threshold import fallback_counter
from .triton_common import contiguous_rows, dim_options, hidden_rows, load_rows

# Rows and dimensions read at a time, rows between two updates of the shared counts, and the most
# programs.
BLOCK_ROWS, BLOCK_DIM, CHUNK, PROGRAMS, WARPS = 256, 64, 4096, 1024, 8


@triton.jit
def _flag_kernel(
    threshold, count, similarity, flagged, fallbacks, width, m, BLOCK_M: tl.constexpr
):  # fmt: skip
    """Flag a query whose threshold was misleading: too few rows passed, or more than the width.

    Too few are right where the threshold is -inf, which keeps all rows, and too many where all that
    was found is NaN, above which nothing ranks.
    """
    own = tl.program_id(0)
    passed = tl.load(count + own)
    misled = (passed < m) & (tl.load(threshold + own) > float('-inf'))
    if passed > width:
        numbers = 0
        for start in range(0, m, BLOCK_M):
            place = start + tl.arange(0, BLOCK_M)
            found = own.to(tl.int64) * m + place
            score = tl.load(similarity + found, mask=place < m, other=float('nan'))
            numbers += tl.sum((score == score).to(tl.int32), axis=0)
        misled = numbers > 0
    if misled:
        tl.atomic_add(fallbacks, 1)
        # The first entry counts the flagged queries, which follow it.
        tl.store(flagged + 1 + tl.atomic_add(flagged, 1), own)


@triton.jit
def _rank(
    query, bank, exclude, query_label, bank_label, own, row, rows, dim,
    query_stride, bank_stride, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Scores of one query with some rows, and integers in their order: NaN highest, as in topk."""
    is_row = row < rows
    score = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for start in range(0, dim, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        left = tl.load(query + own * query_stride + column, mask=column < dim, other=0.0)
        right = load_rows(bank, row, dim, bank_stride, start, is_row, BLOCK_D, UNIT)
        score += tl.sum(right.to(tl.float32) * left[None, :], axis=1)
    hidden = row < 0
    if exclude is not None:
        hidden |= tl.load(exclude + own) == row
    if bank_label is not None:
        label = tl.load(bank_label + row, mask=is_row, other=0)
        hidden |= label == tl.load(query_label + own)
    score = tl.where(hidden, float('-inf'), score)
    # The bits of positive floats are in their order, those of negative ones in reverse.
    bits = tl.where(score == score, score.to(tl.int32, bitcast=True), 0x7FFFFFFF)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return score, ordered.to(tl.uint32, bitcast=True) ^ 0x80000000


@triton.jit(do_not_specialize=['step'])
def _select_kernel(
    query, bank, exclude, query_label, bank_label, flagged, states, similarity, index,
    step, rows, dim, query_stride, bank_stride, m,
    CHUNK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Select the ``m`` highest of the flagged queries among all rows, by a radix select.

    Steps 0 to 3 count the next eight bits of the scores that share the bits found so far with the
    score of rank ``m``; step 4 collects what is above that score and as many of its equals as are
    missing. The same program serves all steps: two could round the same sum in two ways.
    """
    chunks, digit = tl.cdiv(rows, CHUNK), tl.arange(0, 256)
    for item in range(tl.program_id(0), tl.load(flagged) * chunks, tl.num_programs(0)):
        own = tl.load(flagged + 1 + item // chunks).to(tl.int64)
        # The counts of each step, then how many rows above the score and equal to it are collected.
        state = states + own * 1026
        prefix, missing = tl.full((), 0, tl.uint32), tl.full((), 0, tl.int32) + m
        for earlier in range(0, step):
            count = tl.load(state + earlier * 256 + digit)
            above = tl.sum(count, axis=0) - tl.cumsum(count, axis=0)
            chosen = tl.max(tl.where(above + count >= missing, digit, 0), axis=0)
            missing -= tl.sum(tl.where(digit == chosen, above, 0), axis=0)
            prefix |= chosen.to(tl.uint32) << (24 - 8 * earlier)
        shift = tl.maximum(24 - 8 * step, 0)
        count = tl.zeros((256,), dtype=tl.int32)
        start = item % chunks * CHUNK
        for block in range(start, tl.minimum(start + CHUNK, rows), BLOCK_N):
            row = block + tl.arange(0, BLOCK_N)
            score, key = _rank(
                query, bank, exclude, query_label, bank_label, own, row, rows, dim,
                query_stride, bank_stride, BLOCK_N, BLOCK_D, UNIT,
            )  # fmt: skip
            if step < 4:
                # Two shifts, since one by all 32 bits is undefined.
                same = ((key >> shift) >> 8) == ((prefix >> shift) >> 8)
                bits = ((key >> shift) & 255).to(tl.int32)
                count += tl.histogram(bits, 256, mask=same & (row < rows))
            else:
                is_above = ((key > prefix) & (row < rows)).to(tl.int32)
                is_equal = ((key == prefix) & (row < rows)).to(tl.int32)
                first = tl.atomic_add(state + 1024, tl.sum(is_above, axis=0))
                equals = tl.atomic_add(state + 1025, tl.sum(is_equal, axis=0))
                rank = equals + tl.cumsum(is_equal, axis=0) - 1
                place = first + tl.cumsum(is_above, axis=0) - 1
                place = tl.where(is_above > 0, place, m - missing + rank)
                kept = (is_above > 0) | ((is_equal > 0) & (rank < missing))
                tl.store(similarity + own * m + place, score, mask=kept)
                tl.store(index + own * m + place, row.to(tl.int64), mask=kept)
        if step < 4:
            tl.atomic_add(state + step * 256 + digit, count, mask=count > 0)


def search_misled(
    request: Request, threshold: Tensor, count: Tensor, width: int, found: Neighbours
) -> None:
    """Search again for the queries whose threshold was misleading, and count them.

    ``count``, int32, ``(B,)``, is how many rows reached the threshold, float32, ``(B,)``, of which
    ``width`` could be kept. The result ``found`` is overwritten for these queries.
    """
    bank, query = contiguous_rows(request.bank), request.query.float().contiguous()
    queries, (rows, dim) = len(query), bank.shape
    states, flagged = count.new_zeros(queries * 1027 + 1).split([queries * 1026, queries + 1])
    programs = min(queries * triton.cdiv(rows, CHUNK), PROGRAMS)
    with torch.cuda.device_of(bank):
        _flag_kernel[(queries,)](
            threshold, count, found.similarity, flagged, fallback_counter(bank.device),
            width, request.m, BLOCK_M=BLOCK_ROWS,
        )  # fmt: skip
        for step in range(5):
            _select_kernel[(programs,)](
                query, bank, **hidden_rows(request), flagged=flagged, states=states,
                similarity=found.similarity, index=found.index, step=step, rows=rows, dim=dim,
                query_stride=query.stride(0), bank_stride=bank.stride(0), m=request.m,
                CHUNK=CHUNK, BLOCK_N=BLOCK_ROWS, **dim_options(bank, BLOCK_DIM), num_warps=WARPS,
            )  # fmt: skip
