"""One training step of InvP: search, losses and the new neighbours of the batch."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from . import collectives
from .graph import nearest_others
from .losses import HardSampling, instance_loss, propagation_loss
from .positives import Positives
from .search import BankRows, Neighbours, top_m
from .search.order import move_last
from .similarity import bank_similarity

# Finds the positives from the search result and the new neighbours, (B, num_neighbours) int64.
FindPositives = Callable[[Neighbours, Tensor], Positives | None]


class InvPStep(NamedTuple):
    """What :func:`invp_step` computes.

    Attributes:
        instance (Tensor): Mean instance loss, a scalar.
        propagation (Tensor, optional): Mean propagation loss over the queries that have
            positives, a scalar; None without positives to compute it from.
        neighbours (Tensor): int64, shape ``(B, k)``: rows to store in the graph.
        positive (Positives, optional): ``(B, L)`` positives.
    """

    instance: Tensor
    propagation: Tensor | None
    neighbours: Tensor
    positive: Positives | None


def invp_step(
    query: Tensor,
    bank: Tensor | BankRows,
    anchor: Tensor,
    positive: Positives | FindPositives | None,
    sampling: HardSampling,
    *,
    num_neighbours: int = 4,
    min_width: int = 0,
    backend: str = 'auto',
) -> InvPStep:
    """Compute both losses of InvP and the new neighbours of a batch with one search of the bank.

    `InvP <https://arxiv.org/abs/2010.11694>`_, sections 3.1 and 3.2. Both losses share the
    similarities of the search, so that backward reads the M nearest rows of each query once.
    With several processes each of them calls it, with a batch of its own; gradients averaged over
    the processes are then those of the whole batch.
    The step changes neither the bank nor the graph; the caller updates them after the optimiser
    step, because backward reads the bank.

    Args:
        query (Tensor): Float, unit rows, shape ``(B, D)``; the only input with a gradient.
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``.
        anchor (Tensor): int64, shape ``(B,)``, the bank row of each query's own image.
        positive (Positives | Callable, optional): ``(B, L)`` positives from :func:`propagate`,
            or a function that returns them, given the result of the search and the new
            neighbours. None leaves out the propagation loss.
        sampling (HardSampling): Options of the losses.
        num_neighbours (int): k, neighbours to return for each query, 1 to N - 1. Defaults to 4.
        min_width (int): Least number of rows to search for, for a ``positive`` function that
            needs more than the losses. Defaults to 0.
        backend (str): Backend of the search, see :func:`top_m`. Defaults to ``'auto'``.

    Returns:
        InvPStep: Mean losses, neighbours and positives.

    Example:
        >>> import torch
        >>> import torch.nn.functional as F
        >>> from mmselfsup_invp.ops import knn_graph, propagate
        >>> bank = F.normalize(torch.randn(100, 8))
        >>> graph, anchor = knn_graph(bank, k=4), torch.tensor([3, 14])
        >>> query = bank[anchor].clone().requires_grad_()
        >>> positive = propagate(graph, anchor, hops=3)
        >>> step = invp_step(query, bank, anchor, positive, HardSampling(num_background=50))
        >>> (step.instance + 0.6 * step.propagation).backward()
        >>> graph[anchor] = step.neighbours
    """
    width = max(sampling.search_width, num_neighbours + 1, min_width)
    nearest = top_m(query, bank, min(width, len(bank)), sort=False, backend=backend)
    neighbours = nearest_others(nearest, anchor, num_neighbours)
    found, column = _anchor_last(query, bank, anchor, nearest, sampling)
    if callable(positive):
        positive = positive(nearest, neighbours)

    background = functools.partial(_background, found, column, sampling)
    exact = sampling.instance_background == 'exact'
    instance = instance_loss(query, bank, anchor, background(exact), sampling).mean()
    if positive is None:
        return InvPStep(instance, None, neighbours, None)

    without_anchor = sampling.exclusive and sampling.background == 'topm'
    nearest = background(without_anchor or sampling.background == 'exact')
    propagation = propagation_loss(query, bank, anchor, nearest, positive, sampling)
    # Queries without positives add 0 to the sum. DDP averages the gradients of the processes, so
    # that the mean number of queries with positives gives the mean over all of them.
    count = collectives.mean(positive.mask.any(dim=1).sum())
    count = count.clamp(min=1 / collectives.world_size())
    return InvPStep(instance, propagation.sum() / count, neighbours, positive)


def _anchor_last(
    query: Tensor,
    bank: Tensor | BankRows,
    anchor: Tensor,
    nearest: Neighbours,
    sampling: HardSampling,
) -> tuple[Neighbours, Tensor]:
    """The nearest rows with the anchor, if it is among them, moved to the last column, in place.

    Returns them, their similarities with a gradient, and the column, ``(B, 1)``, of what was last:
    the farthest. The backgrounds are parts of this one result, so that backward reads each row
    once.
    """
    if nearest.index.size(1) > sampling.search_width > 0:
        similarity, kept = nearest.similarity.topk(sampling.search_width, dim=1)
        nearest = Neighbours(similarity, nearest.index.gather(1, kept))
    is_anchor = nearest.index == anchor[:, None]
    column = is_anchor.byte().argmax(dim=1, keepdim=True)
    last = torch.full_like(column, is_anchor.size(1) - 1)
    column = torch.where(is_anchor.any(dim=1, keepdim=True), column, last)
    move_last(nearest, column)
    similarity = bank_similarity(query, bank, nearest.index, nearest.similarity)
    return Neighbours(similarity, nearest.index), column


def _background(
    found: Neighbours, column: Tensor, sampling: HardSampling, without_anchor: bool
) -> Neighbours | None:
    """The M nearest other rows, or the M nearest rows of the whole bank; None for all rows."""
    num = sampling.num_background
    if num is None:
        return None
    if without_anchor:
        return Neighbours(*(part[:, :-1] for part in found))
    if num >= found.index.size(1):  # A search of the whole bank has no row beyond the M nearest.
        return found
    # The anchor takes the place of the farthest row.
    is_farthest = torch.arange(num, device=column.device) == column
    return Neighbours(*(torch.where(is_farthest, part[:, -1:], part[:, :-1]) for part in found))
