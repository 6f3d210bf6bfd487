"""The search on a GPU: Triton kernels and their launchers.

One pass over the bank multiplies a tile of it with the queries, compares the products with a
threshold for each query and writes what passes; ``topk`` ranks that small part of the bank. The
host never synchronises: queries whose threshold was misleading are flagged on the device, and a
second search by all programs ends at once unless there are some.

:func:`.self_test.kernels` imports this module if Triton is installed. ``TRITON_INTERPRET=1`` in the
environment runs the kernels on the CPU, slowly: the tests do that where there is no GPU.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .request import Neighbours, Request, concatenate
from .threshold import gpu_queries, plan_gpu, sample_threshold
from .triton_common import INTERPRETED, contiguous_rows, dim_options, hidden_rows, load_rows
from .triton_select import search_misled

# Rows in a tile of the filter pass: the bits of the number that holds which of them passed.
ROW_BLOCK = 64
# Queries in a tile, times the bytes of a number: the most with which three or four programs share
# the registers of a multiprocessor of an H100 (determined by compiling).
QUERY_BYTES = 256
# Bytes of a row that are multiplied at a time.
ROW_BYTES = 128
FILTER_WARPS, FILTER_STAGES = 4, 2
# How float32 numbers are multiplied: without rounding. 'tf32x3', on tensor cores, is nearly as
# precise; which is faster has not been measured.
FLOAT32_PRODUCTS = 'ieee'


@triton.jit
def _popcount(bits):
    """Count the ones among 64 bits, in the form that compilers turn into one instruction."""
    bits -= (bits >> 1) & 0x5555555555555555
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((bits * 0x0101010101010101) >> 56).to(tl.int32)


@triton.jit
def _pack(flags, inside, BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr):
    """Pack the flags of each row into the bits of one number, in words of 32; zero outside."""
    column = tl.arange(0, BLOCK_N)
    bits = tl.zeros((BLOCK_Q,), dtype=tl.uint64)
    for word in tl.static_range(BLOCK_N // 32):
        bit = tl.where(inside & (column // 32 == word), 1 << (column % 32), 0)
        part = tl.sum(tl.where(flags, bit[None, :], 0), axis=1)
        bits |= part.to(tl.uint32, bitcast=True).to(tl.uint64) << (32 * word)
    return bits


@triton.jit
def _filter_kernel(
    query, scale, bank, threshold, exclude, query_label, bank_label, value, index, count,
    queries, rows, dim, query_stride, bank_stride, width,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, PARTS: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Write the rows of one tile of the bank that reach the thresholds of some queries."""
    # Programs that share a tile are neighbours, so that all but the first find it in the cache.
    groups = tl.cdiv(queries, BLOCK_Q)
    own = (tl.program_id(0) % groups) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    # The rows of a tile are strided over the bank. Adjacent rows are often similar and would pass
    # together, and the loop below takes as many rounds as the busiest query has rows that pass.
    tile, tiles = tl.program_id(0) // groups, tl.cdiv(rows, BLOCK_N)
    column = tl.arange(0, BLOCK_N)
    row = tile + column * tiles
    is_query, is_row = own < queries, row < rows

    score = tl.zeros((BLOCK_Q, BLOCK_N), dtype=tl.float32)
    steps = tl.cdiv(dim, BLOCK_D)
    # One product for all parts: between two in one loop Triton 3.6 omits a wait on some GPUs
    # (triton-lang/triton issue 10821).
    for step in range(PARTS * steps):
        part = step // steps
        start = (step - part * steps) * BLOCK_D
        parts = query + part * (dim // UNIT * UNIT)
        left = load_rows(parts, own, dim, query_stride, start, is_query, BLOCK_D, UNIT)
        right = load_rows(bank, row, dim, bank_stride, start, is_row, BLOCK_D, UNIT)
        if UPCAST:
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

    bits = tl.where(is_query, _pack(passes, is_row, BLOCK_Q, BLOCK_N), 0)
    if exclude is not None:
        excluded = tl.load(exclude + own, mask=is_query, other=-1) - tile
        bit = tl.full((BLOCK_Q,), 1, tl.uint64) << (excluded // tiles & (BLOCK_N - 1)).to(tl.uint64)
        bits &= ~tl.where((excluded >= 0) & (excluded % tiles == 0), bit, 0)

    # Places for all of the tile are reserved at once. Few rows pass: each round writes the first
    # that is left of each query, which takes less than a place for every entry of the tile.
    passed = _popcount(bits)
    place = tl.atomic_add(count + own, passed, mask=passed > 0, sem='relaxed')
    buffer = own.to(tl.int64) * width
    bits = tl.where(place < width, bits, 0)
    while tl.max((bits > 0).to(tl.int32), axis=0) > 0:
        first = _popcount((bits - 1) & ~bits)
        found = tl.sum(tl.where(column[None, :] == first[:, None], score, 0.0), axis=1)
        if scale is not None:
            found *= factor
        kept = (bits > 0) & (place < width)
        tl.store(value + buffer + place, found, mask=kept)
        tl.store(index + buffer + place, tile + first * tiles, mask=kept)
        bits &= bits - 1
        place += 1


def search(request: Request, threshold: Tensor | None = None, width: int = 0) -> Neighbours | None:
    """Search in one pass with a threshold, in any order; the host does not synchronise.

    The thresholds, float32, ``(B,)``, and how many rows may pass them, are estimated from a sample
    unless given. The result is exact for any; misleading ones take longer. None where the bank is
    too small for a sample.
    """
    if threshold is None:
        queries = gpu_queries(request)
        if queries < len(request.query):
            return concatenate(map(search, request.split(queries)))
        plan = plan_gpu(request)
        if plan is None:
            return None
        threshold, width = sample_threshold(request, plan), plan.width
    grid, arguments = filter_arguments(request, threshold, width)
    with torch.cuda.device_of(request.bank):
        _filter_kernel[grid](**arguments)
    passed = Neighbours(arguments['value'], arguments['index'])
    similarity, index = passed.top(request.m, sort=False)
    found = Neighbours(similarity, index.long())
    search_misled(request, threshold, arguments['count'], width, found)
    return found


def filter_arguments(
    request: Request, threshold: Tensor, width: int
) -> tuple[tuple[int], dict[str, Any]]:
    """Return the grid and the arguments of the kernel that keeps what reaches the threshold.

    NaN reaches any threshold. The kernel fills ``value``, float32, -inf where empty, and ``index``,
    int32, both ``(B, width)``, in any order; ``count``, int32, ``(B,)``, is how many rows passed.
    """
    bank = contiguous_rows(request.bank)
    query, scale = split_queries(request.query, bank.dtype)
    value = threshold.new_full((len(query), width), -torch.inf)
    size, (rows, dim) = bank.element_size(), bank.shape
    block = min(QUERY_BYTES // size, max(triton.next_power_of_2(len(query)), 16))
    arguments = dict(
        query=query, scale=scale, bank=bank, threshold=threshold, **hidden_rows(request),
        value=value, index=torch.zeros_like(value, dtype=torch.int32),
        count=torch.zeros_like(threshold, dtype=torch.int32),
        queries=len(query), rows=rows, dim=dim, query_stride=query.stride(0),
        bank_stride=bank.stride(0), width=width,
        PRECISION=FLOAT32_PRODUCTS, UPCAST=INTERPRETED and bank.dtype == torch.bfloat16,
        PARTS=query.size(1) // dim, BLOCK_Q=block, BLOCK_N=ROW_BLOCK,
        **dim_options(bank, ROW_BYTES // size),
        num_warps=FILTER_WARPS, num_stages=FILTER_STAGES,
    )  # fmt: skip
    return (triton.cdiv(len(query), block) * triton.cdiv(rows, ROW_BLOCK),), arguments


def split_queries(query: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Split queries into numbers of the type of a bank, which tensor cores multiply with it.

    One 16-bit number would round them more than the bank is rounded; the sum of a high and a low
    part is off by at most 2**-22 (float16) or 2**-16 (bfloat16) of the largest entry. Dividing by
    that entry keeps all numbers within the range of float16.

    Returns high and low parts side by side, ``(B, 2 * D)``, and the factor of each query, float32,
    ``(B,)``; where the type is that of the queries or float32, the queries themselves and None.
    """
    if dtype in (torch.float32, query.dtype):
        return query.to(dtype).contiguous(), None
    query = query.float()
    scale = query.abs().amax(dim=1)
    scale = torch.where(scale > 0, scale, 1)
    query = query / scale[:, None]
    high = query.to(dtype)
    return torch.cat([high, (query - high.float()).to(dtype)], dim=1), scale
