"""For each query a threshold that somewhat more than ``m`` rows reach, estimated from a sample.

A search that keeps only what passes a threshold moves a small part of the similarities: on the CPU
``topk`` spends its time on copying whole rows, on a GPU on reading what a product has written. The
result stays exact: the backends count the rows that pass, and where there are fewer than ``m`` or
more than their buffer holds, they rank all rows.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .products import similarities
from .request import Request

# Rows of the bank for each row in the sample, at least.
SAMPLE_STRIDE = 24
# Samples that rank above the threshold, at least, for a reliable estimate.
SAMPLE_RANK = 16
# The score of rank m in a sample is at most the score of rank m in the bank. A few ranks more make
# up for the excluded row and for rounding.
SPARE_RANKS = 3
# The golden ratio in fixed point.
GOLDEN_RATIO = 2654435761
# The queries that a GPU searches at a time: at most this many, and few enough for each to have a
# sample of one row in GPU_STRIDE. The smaller the sample, the more rows pass.
GPU_QUERIES = 1024
GPU_STRIDE = 96
# Standard deviations by which a threshold is lowered. A GPU takes more of them: a second search
# costs it more than some rows that pass in addition.
CPU_DEVIATIONS = 4
GPU_DEVIATIONS = 6

# For each device, how many queries were searched again.
_fallbacks: dict[torch.device, Tensor] = {}


class Plan(NamedTuple):
    """How the thresholds are estimated."""

    stride: int  # Rows of the bank for each row in the sample.
    rank: int  # The rank in the sample whose score becomes the threshold.
    width: int  # Rows that may pass for a query: the size of its buffer.


def plan_cpu(request: Request) -> Plan | None:
    """Plan the thresholds of a CPU search; None where a sample is no reliable estimate."""
    plan = _plan(request, CPU_DEVIATIONS)
    reliable = request.m / plan.stride >= SAMPLE_RANK and len(request.bank) >= 8 * request.m
    return plan if len(request.query) and reliable else None


def plan_gpu(request: Request) -> Plan | None:
    """Plan the thresholds of a GPU search; None where the bank is too small to gain from one."""
    plan = _plan(request, GPU_DEVIATIONS)
    return plan if len(request.query) and len(request.bank) >= 4 * plan.width else None


def gpu_queries(request: Request) -> int:
    """Return how many queries a GPU searches at a time, which bounds the rows that pass."""
    share = request.max_elements * GPU_STRIDE // len(request.bank)
    return min(GPU_QUERIES, max(share, 1))


def _plan(request: Request, deviations: int) -> Plan:
    """Choose a threshold that ``m`` rows and some standard deviations more will reach."""
    products = len(request.bank) * len(request.query)
    stride = max(SAMPLE_STRIDE, math.ceil(products / request.max_elements))
    expected = request.m / stride
    rank = max(math.ceil(expected + deviations * expected**0.5), SAMPLE_RANK)
    rank = min(rank, request.m + SPARE_RANKS)
    # The standard deviation of a low rank is larger than its root.
    deviation = max(rank, SAMPLE_RANK) ** 0.5
    return Plan(stride, rank, math.ceil(stride * (rank + (deviations + 1) * deviation)))


def sample_rows(bank: Tensor, stride: int) -> Tensor:
    """Choose one row of every ``stride`` at quasi-random places, the same in every call.

    Evenly spaced rows would miss classes in a bank whose classes alternate. The places within the
    strides are the fractional parts of a quadratic sequence; its overflow is harmless.
    """
    start = torch.arange(0, len(bank) - stride + 1, stride, device=bank.device)
    return start + (start * start * GOLDEN_RATIO >> 32) % stride


def sample_scores(request: Request, plan: Plan) -> Tensor:
    """Compute the similarities with a sample of the bank, ``(B, N / stride)``.

    Rows of the query's own label are masked; the excluded row is not (see ``SPARE_RANKS``).
    """
    rows = sample_rows(request.bank, plan.stride)
    scores = similarities(request.query, request.bank, rows)
    request.mask_labels(scores, rows)
    return scores


def sample_threshold(request: Request, plan: Plan) -> Tensor:
    """Return the score of a certain rank in a sample of the bank, ``(B,)``."""
    return sample_scores(request, plan).topk(plan.rank, dim=1, sorted=False)[0].amin(dim=1)


def fallback_counter(device: torch.device) -> Tensor:
    """Return the counter of a device, int64, shape ``(1,)``, to which a search adds."""
    if device not in _fallbacks:
        # A tensor created in inference mode could not be updated outside of it.
        with torch.inference_mode(mode=False):
            _fallbacks[device] = torch.zeros(1, dtype=torch.int64, device=device)
    return _fallbacks[device]


def fallbacks() -> int:
    """Return how many queries had a misleading sample and were searched again since the reset.

    Many mean that most rows of the bank are nearly equal. Synchronises with the devices.

    Example:
        >>> from mmselfsup_invp.ops import top_m
        >>> reset_fallbacks()
        >>> bank = torch.ones(9000, 2)
        >>> _ = top_m(bank[:3], bank, m=1000)
        >>> fallbacks()
        3
    """
    return sum(int(counter) for counter in _fallbacks.values())


def reset_fallbacks() -> None:
    """Set the counters of :func:`fallbacks` to zero."""
    for counter in _fallbacks.values():
        counter.zero_()
