"""The losses of InvP (`arXiv:2010.11694`_), one value per query.

``s_ij`` is the inner product of query i and row j of the bank, ``e_ij = exp(s_ij / t)`` with the
temperature t. All sums are float32 log-sum-exp; ratios are computed as differences of logarithms.

.. _arXiv:2010.11694: https://arxiv.org/abs/2010.11694
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Fraction, PositiveInt, Temperature, checked
from .positives import HardPositives, Positives, contains, select_positives
from .search import BankRows, Neighbours
from .similarity import bank_similarity, full_logsumexp, masked_logsumexp

InstanceBackground = Literal['exact', 'topm']
Background = Literal['exact', 'topm', 'official']


@checked
@dataclass(frozen=True)
class HardSampling:
    """Options of the two losses of InvP: hard positives, hard negatives and the temperature.

    Section 3.2 of `InvP <https://arxiv.org/abs/2010.11694>`_. The defaults are the paper's
    values and definitions. Note that the paper defines B(i) as in ``'exact'``, but approximates
    it by N_M(i) in practice (end of section 3.2), as ``'topm'`` and the released code do. The
    released code is ``background='official', instance_background='topm', eps=1e-7``.

    Args:
        temperature (float): t, positive. The paper: 0.07 for the linear neck, 0.2 for the MLP
            neck. Defaults to 0.07.
        num_background (int, optional): M, nearest other rows of the bank in the denominators;
            limited to N - 1. None takes the whole bank (no hard negatives). Defaults to 4096.
        num_hard (int): P, positives in the loss; all of N(i) where it has fewer. Defaults to 50.
        hard_pos (str): ``'hard'`` takes the least similar positives (the paper), ``'easy'`` the
            most similar, ``'random'`` a uniform draw, ``'all'`` all of them. Defaults to
            ``'hard'``.
        background (str): B(i), the denominator of the propagation loss: ``'exact'``, ``'topm'``
            or ``'official'``; see :func:`propagation_loss`. Defaults to ``'exact'``.
        exclusive (bool): Whether the anchor is excluded from the ``'topm'`` and ``'official'``
            background. Defaults to True.
        instance_background (str): Denominator of the instance loss: ``'exact'`` or ``'topm'``;
            see :func:`instance_loss`. Defaults to ``'exact'``.
        eps (float): Added to each ratio inside the logarithm. The official code adds 1e-7, which
            limits the loss to 16.118. Defaults to 0, as in the paper.

    Raises:
        ValueError: If an option is outside its valid values.

    Example:
        >>> HardSampling(temperature=0.2).search_width
        4097
    """

    temperature: Temperature = 0.07
    num_background: PositiveInt | None = 4096
    num_hard: PositiveInt = 50
    hard_pos: HardPositives = 'hard'
    background: Background = 'exact'
    exclusive: bool = True
    instance_background: InstanceBackground = 'exact'
    eps: Fraction = 0.0

    @property
    def search_width(self) -> int:
        """Nearest rows that the losses need: M others and the anchor; 0 for the whole bank."""
        return 0 if self.num_background is None else self.num_background + 1


def instance_loss(
    query: Tensor,
    bank: Tensor | BankRows,
    anchor: Tensor,
    nearest: Neighbours | None,
    sampling: HardSampling,
    *,
    masked: Tensor | None = None,
) -> Tensor:
    """Discriminate each image from its nearest others: ``L_ins`` of InvP (section 3.2).

    ``L_ins(i) = -log(e_ii / sum_j e_ij)``, where j runs over

    - ``instance_background='exact'`` (the paper): N_M(i) and i. The anchor counts once, whether
      or not it is among ``nearest``;
    - ``'topm'`` (the official code): the rows of ``nearest``. An anchor that is not among them is
      missing from the denominator;
    - all N rows, if ``nearest`` is None (no hard negatives).

    Args:
        query (Tensor): Float, unit rows, shape ``(B, D)``; the only input with a gradient.
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``.
        anchor (Tensor): int64, shape ``(B,)``, the bank row of each query's own image.
        nearest (Neighbours, optional): ``(B, M)`` nearest rows from :func:`top_m` with the same
            query and bank. ``sort=False`` is enough and saves half of the search. The
            similarities are not computed again; backward reads the M rows of each query once.
        sampling (HardSampling): Uses ``temperature``, ``instance_background`` and ``eps``.
        masked (Tensor, optional): bool, shape ``(B, M)``: entries of ``nearest`` that do not count.
            With ``'exact'`` the anchor must be among them. Defaults to None: the anchor with
            ``'exact'``, no entry with ``'topm'``.

    Returns:
        Tensor: float32, shape ``(B,)``.

    Example:
        >>> from mmselfsup_invp.ops import top_m
        >>> bank, anchor = torch.eye(3), torch.tensor([0])
        >>> query = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> nearest = top_m(query, bank, m=2, exclude=anchor, sort=False)
        >>> loss = instance_loss(query, bank, anchor, nearest, HardSampling(temperature=1.0))
        >>> round(loss.item(), 4)
        0.5514
    """
    temperature = sampling.temperature
    own = _own_logit(query, bank, anchor, temperature)
    if nearest is None:
        return _add_eps(full_logsumexp(query, bank, temperature) - own, sampling.eps)
    exact = sampling.instance_background == 'exact'
    if exact and masked is None:
        masked = nearest.index == anchor[:, None]
    others = masked_logsumexp(_with_gradient(query, bank, nearest), masked, temperature)
    return _add_eps(_share_loss(own, others) if exact else others - own, sampling.eps)


def propagation_loss(
    query: Tensor,
    bank: Tensor | BankRows,
    anchor: Tensor,
    nearest: Neighbours | None,
    positive: Positives,
    sampling: HardSampling,
    *,
    masked: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attract each image to its hard positives: ``L_inv`` of InvP (section 3.2).

    ``L_inv(i) = -log(sum_{p in N^h(i)} e_ip / sum_{n in B(i)} e_in)``. N^h(i) are ``num_hard`` of
    the positives N(i), see :func:`select_positives`. The background B(i) is

    - ``background='exact'`` (the paper's definition): the rows of ``nearest`` without N(i), and
      N^h(i). The other positives and the anchor do not appear in the loss.
    - ``'topm'`` (the approximation that the paper uses in practice): the rows of ``nearest``,
      without the anchor unless ``exclusive=False``.
    - ``'official'`` (the released code): ``sum_j e_ij - e_ii`` over the rows j of ``nearest``:
      as ``'topm'``, but ``e_ii`` is subtracted even if the anchor is not among them.
    - all N rows, if ``nearest`` is None (no hard negatives).

    In the last three, a repeated positive counts repeatedly in the numerator only, and a positive
    that is not among ``nearest`` is missing from the denominator. The loss can then be negative.

    Args:
        query (Tensor): Float, unit rows, shape ``(B, D)``; the only input with a gradient.
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``.
        anchor (Tensor): int64, shape ``(B,)``, the bank row of each query's own image.
        nearest (Neighbours, optional): ``(B, M)`` nearest rows, see :func:`instance_loss`.
        positive (Positives): ``(B, L)`` positives, from :func:`propagate`.
        sampling (HardSampling): Uses all options but ``num_background`` and
            ``instance_background``.
        masked (Tensor, optional): bool, shape ``(B, M)``: entries of ``nearest`` that are not in
            the background, besides the positives and the anchor that the option excludes. With
            ``'exact'`` the anchor must be among them. Defaults to None, no further entries.
        generator (torch.Generator, optional): For ``hard_pos='random'``. Defaults to None, the
            global generator.

    Returns:
        Tensor: float32, shape ``(B,)``. A query without positives gives 0 and no gradient;
        average over the queries with ``positive.mask.any(dim=1)``.

    Example:
        >>> from mmselfsup_invp.ops import top_m
        >>> bank, anchor = torch.eye(3), torch.tensor([0])
        >>> query = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> nearest = top_m(query, bank, m=2, exclude=anchor, sort=False)
        >>> positive = Positives(torch.tensor([[1]]), torch.tensor([[True]]))
        >>> sampling = HardSampling(temperature=1.0)
        >>> loss = propagation_loss(query, bank, anchor, nearest, positive, sampling)
        >>> round(loss.item(), 4)
        0.6931
    """
    temperature = sampling.temperature
    chosen = _chosen_logsumexp(query, bank, positive, sampling, generator)
    if nearest is None:
        loss = full_logsumexp(query, bank, temperature) - chosen
    elif sampling.background == 'exact':
        excluded = contains(positive.index, positive.mask, nearest.index, size=len(bank))
        excluded |= nearest.index == anchor[:, None] if masked is None else masked
        similarity = _with_gradient(query, bank, nearest)
        loss = _share_loss(chosen, masked_logsumexp(similarity, excluded, temperature))
    else:
        loss = _ranked_background(query, bank, anchor, nearest, sampling, masked) - chosen
    return _add_eps(loss, sampling.eps).masked_fill(~positive.mask.any(dim=1), 0)


def _chosen_logsumexp(
    query: Tensor,
    bank: Tensor | BankRows,
    positive: Positives,
    sampling: HardSampling,
    generator: torch.Generator | None,
) -> Tensor:
    """``log sum_{p in N^h(i)} e_ip``; the lowest number for a query without positives."""
    candidate = bank_similarity(query, bank, positive.index)
    column = select_positives(
        candidate, positive.mask, sampling.num_hard, sampling.hard_pos, generator
    )
    logits = candidate.gather(1, column) / sampling.temperature
    # Not -inf: a row of it would make the gradient of a query without positives NaN.
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~positive.mask.gather(1, column), lowest).logsumexp(dim=1)


def _ranked_background(
    query: Tensor,
    bank: Tensor | BankRows,
    anchor: Tensor,
    nearest: Neighbours,
    sampling: HardSampling,
    masked: Tensor | None,
) -> Tensor:
    """Log of the ``'topm'`` or ``'official'`` denominator, ``(B,)``."""
    similarity = _with_gradient(query, bank, nearest)
    if not sampling.exclusive:
        return masked_logsumexp(similarity, masked, sampling.temperature)
    is_anchor = nearest.index == anchor[:, None]
    excluded = is_anchor if masked is None else is_anchor | masked
    total = masked_logsumexp(similarity, excluded, sampling.temperature)
    if sampling.background == 'topm':
        return total
    # Masking e_ii instead of subtracting it from the sum avoids the cancellation of the official
    # code at low temperatures; only an e_ii that is not part of the sum is left to subtract.
    own = _own_logit(query, bank, anchor, sampling.temperature)
    counted = is_anchor if masked is None else is_anchor & ~masked
    missing = (own - total).masked_fill(counted.any(dim=1), -torch.inf)
    return total + torch.log1p(-missing.exp())


def _own_logit(
    query: Tensor, bank: Tensor | BankRows, anchor: Tensor, temperature: float
) -> Tensor:
    """``log e_ii``, ``(B,)``."""
    return bank_similarity(query, bank, anchor[:, None]).squeeze(1) / temperature


def _with_gradient(query: Tensor, bank: Tensor | BankRows, nearest: Neighbours) -> Tensor:
    """The similarities of a search with a gradient to the query, ``(B, M)``."""
    if nearest.similarity.requires_grad:
        return nearest.similarity
    return bank_similarity(query, bank, nearest.index, nearest.similarity)


def _share_loss(part: Tensor, rest: Tensor) -> Tensor:
    """``-log(part / (part + rest))`` from the logarithms of both, accurate also close to 0."""
    return F.softplus(rest - part)


def _add_eps(loss: Tensor, eps: float) -> Tensor:
    """``-log(ratio + eps)`` from ``-log(ratio)``."""
    return -torch.logaddexp(-loss, loss.new_full((), math.log(eps))) if eps else loss
