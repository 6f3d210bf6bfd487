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
    if callable(positive):
        positive = positive(nearest, neighbours)

    found = _found(query, bank, nearest, sampling)
    # Computed once where both backgrounds leave out the same row.
    left_out = functools.cache(functools.partial(_left_out, found, anchor, sampling))
    arguments = query, bank, anchor, found
    instance_mask = left_out(sampling.instance_background == 'exact')
    instance = instance_loss(*arguments, sampling, masked=instance_mask).mean()
    if positive is None:
        return InvPStep(instance, None, neighbours, None)

    exclusive = sampling.background == 'topm' and sampling.exclusive
    propagation_mask = left_out(sampling.background == 'exact' or exclusive)
    loss = propagation_loss(*arguments, positive, sampling, masked=propagation_mask)
    propagation = collectives.mean_where(positive.mask.any(dim=1), loss)
    return InvPStep(instance, propagation, neighbours, positive)


def _found(
    query: Tensor, bank: Tensor | BankRows, nearest: Neighbours, sampling: HardSampling
) -> Neighbours | None:
    """The rows of both backgrounds, their similarities with a gradient; None for all rows.

    The backgrounds are parts of this one result, so that backward reads each row once.
    """
    if not sampling.search_width:
        return None
    if nearest.index.size(1) > sampling.search_width:
        nearest = nearest.top(sampling.search_width)
    similarity = bank_similarity(query, bank, nearest.index, nearest.similarity)
    return Neighbours(similarity, nearest.index)


@torch.no_grad()
def _left_out(
    found: Neighbours | None, anchor: Tensor, sampling: HardSampling, without_anchor: bool
) -> Tensor | None:
    """Which one of the M + 1 nearest rows is not in a background of M, bool, ``(B, M + 1)``.

    The anchor if the background is without it and it is among them, and the farthest row otherwise;
    None if the background is the whole bank.
    """
    if found is None:
        return None
    similarity, index = found
    if without_anchor:
        left_out = index == anchor[:, None]
    elif index.size(1) == sampling.search_width:
        left_out = torch.zeros_like(index, dtype=torch.bool)
    else:  # A bank of no more than M rows.
        return None
    # On the CPU min is faster than argmin.
    farthest = similarity.min(dim=1, keepdim=True).indices
    # A query whose anchor was not found leaves out its farthest row.
    value = left_out.gather(1, farthest) >= left_out.any(dim=1, keepdim=True)
    return left_out.scatter_(1, farthest, value)
