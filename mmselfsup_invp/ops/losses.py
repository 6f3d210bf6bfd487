"""The losses of InvP (`arXiv:2010.11694`_) and InterCLR (`arXiv:2008.11702`_), per sample.

``s_ij`` is the inner product of query i with row j of the bank, ``e_ij = exp(s_ij / t)`` with
temperature t. All arithmetic is float32 log-sum-exp; ratios exist only as differences of logs.

.. _arXiv:2010.11694: https://arxiv.org/abs/2010.11694
.. _arXiv:2008.11702: https://arxiv.org/abs/2008.11702
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import require_choice, require_length, require_positive
from .sampling import contains, select_positives
from .similarity import bank_similarity, full_logsumexp, masked_logsumexp

INSTANCE_BACKGROUNDS = ('exact', 'topm')
PROPAGATION_BACKGROUNDS = ('exact', 'topm', 'official')
# Sines below this count as this in the arc margin.
SMALLEST_SINE = 1e-4


def instance_loss(
    query: Tensor,
    bank: Tensor,
    anchor: Tensor,
    background: Tensor | None,
    temperature: float,
    *,
    background_mode: str = 'exact',
    eps: float = 0.0,
    similarity: Tensor | None = None,
) -> Tensor:
    """Tell each image from its nearest others: ``L_ins`` of InvP (section 3.3).

    ``L_ins(i) = -log(e_ii / sum_j e_ij)``, where j runs over

    - ``'exact'`` (the paper): N_M(i) and i, the anchor counted once wherever it ranks;
    - ``'topm'`` (the official code): the background as given, so that an anchor that is not
      in it is missing from the denominator;
    - all N rows, if ``background`` is None (no hard negatives).

    Args:
        query (Tensor): Float, unit rows, shape ``(B, D)``; the gradient flows here only.
        bank (Tensor): Float, unit rows, shape ``(N, D)``.
        anchor (Tensor): int64, shape ``(B,)``, the bank row of each query's own image.
        background (Tensor, optional): int64, shape ``(B, M)``, from :func:`top_m`; None for
            the whole bank.
        temperature (float): t, positive. The paper: 0.07 (linear neck), 0.2 (MLP neck).
        background_mode (str): ``'exact'`` or ``'topm'``. Defaults to ``'exact'``.
        eps (float): Added to the ratio inside the log; the official code adds 1e-7, which caps
            the loss at 16.118. Defaults to 0, as in the paper.
        similarity (Tensor, optional): float32, shape ``(B, M)``: similarities of the background
            with their gradient (:func:`bank_similarity`), to share them between losses.

    Returns:
        Tensor: float32, shape ``(B,)``.

    Raises:
        ValueError: If ``background_mode`` is unknown or ``temperature`` not positive.

    Example:
        >>> bank = torch.eye(3)
        >>> query = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> anchor, background = torch.tensor([0]), torch.tensor([[1, 2]])
        >>> loss = instance_loss(query, bank, anchor, background, temperature=1.0)
        >>> round(loss.item(), 4)
        0.5514
    """
    require_choice('background_mode', background_mode, INSTANCE_BACKGROUNDS)
    require_positive('temperature', temperature, '0.07 or 0.2')
    own = bank_similarity(query, bank, anchor[:, None]).squeeze(1) / temperature
    if background is None:
        return _negative_log(own - full_logsumexp(query, bank, temperature), eps)
    if similarity is None:
        similarity = bank_similarity(query, bank, background)
    if background_mode == 'topm':
        return _negative_log(own - masked_logsumexp(similarity, None, temperature), eps)
    others = masked_logsumexp(similarity, background == anchor[:, None], temperature)
    return _negative_log(_log_share(own, others), eps)


def propagation_loss(
    query: Tensor,
    bank: Tensor,
    anchor: Tensor,
    positive: Tensor,
    positive_mask: Tensor,
    background: Tensor | None,
    temperature: float,
    num_hard: int = 50,
    hard: str = 'hard',
    background_mode: str = 'exact',
    *,
    exclusive: bool = True,
    eps: float = 0.0,
    similarity: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pull each image to the hard positives found by propagation: ``L_inv`` of InvP (section 3.3).

    ``L_inv(i) = -log(sum_{p in N^h(i)} e_ip / sum_{n in B(i)} e_in)``. N^h(i) are ``num_hard`` of
    the positives N(i) (see :func:`select_positives`). The background B(i) is

    - ``'exact'`` (the paper): the M nearest without the positives, and N^h(i). Positives that
      were not chosen appear nowhere; the anchor appears nowhere.
    - ``'topm'``: the M nearest as they are, without the anchor (unless ``exclusive=False``).
      Positives that were not chosen stay in the denominator.
    - ``'official'``: the released code to the letter, ``sum_topM e - e_ii``: as ``'topm'``, but
      ``e_ii`` is taken off even where the anchor is not among the M nearest.
    - all N rows, if ``background`` is None (no hard negatives).

    In the last three a repeated positive counts again in the numerator only, and one outside the
    M nearest is missing below, so those values can fall below zero.

    Args:
        query (Tensor): Float, unit rows, shape ``(B, D)``; the gradient flows here only.
        bank (Tensor): Float, unit rows, shape ``(N, D)``.
        anchor (Tensor): int64, shape ``(B,)``, the bank row of each query's own image.
        positive (Tensor): int64, shape ``(B, L)``, from :func:`propagate`.
        positive_mask (Tensor): bool, shape ``(B, L)``.
        background (Tensor, optional): int64, shape ``(B, M)``, from :func:`top_m`; None for
            the whole bank.
        temperature (float): t, positive.
        num_hard (int): P, positives chosen; a row with fewer uses all. Defaults to 50.
        hard (str): ``'hard'``, ``'easy'``, ``'random'`` or ``'all'``. Defaults to ``'hard'``.
        background_mode (str): ``'exact'``, ``'topm'`` or ``'official'``. Defaults to ``'exact'``.
        exclusive (bool): Whether the anchor is taken out of the ``'topm'`` and ``'official'``
            background. Defaults to True.
        eps (float): Added to the ratio inside the log (official: 1e-7). Defaults to 0.
        similarity (Tensor, optional): float32, shape ``(B, M)``: similarities of the background
            with their gradient (:func:`bank_similarity`), to share them between losses.
        generator (torch.Generator, optional): For ``hard='random'``.

    Returns:
        Tensor: float32, shape ``(B,)``. A row without positives gives 0 and no gradient; leave
        it out of a mean (``positive_mask.any(dim=1)`` tells).

    Raises:
        ValueError: If a mode is unknown, ``num_hard`` below 1 or ``temperature`` not positive.

    Example:
        >>> bank = torch.eye(3)
        >>> query = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
        >>> positive, mask = torch.tensor([[1]]), torch.tensor([[True]])
        >>> background = torch.tensor([[1, 2]])
        >>> loss = propagation_loss(query, bank, torch.tensor([0]), positive, mask, background, 1.0)
        >>> round(loss.item(), 4)
        0.6931
    """
    require_choice('background_mode', background_mode, PROPAGATION_BACKGROUNDS)
    require_positive('temperature', temperature, '0.07 or 0.2')
    candidate = bank_similarity(query, bank, positive)
    chosen = select_positives(candidate, positive_mask, num_hard, hard, generator)
    chosen_mask = positive_mask.gather(1, chosen)
    has_positive = chosen_mask.any(dim=1)
    # A row without positives gets a harmless one here and is set to zero at the end: a row of
    # -inf alone would turn the gradient into NaN.
    usable = chosen_mask | ~has_positive[:, None]
    logits = (candidate.gather(1, chosen) / temperature).masked_fill(~usable, -torch.inf)
    chosen_sum = logits.logsumexp(dim=1)

    if background is not None and similarity is None:
        similarity = bank_similarity(query, bank, background)
    if background is None:
        log_ratio = chosen_sum - full_logsumexp(query, bank, temperature)
    elif background_mode == 'exact':
        hidden = contains(positive, positive_mask, background, size=len(bank))
        hidden |= background == anchor[:, None]
        log_ratio = _log_share(chosen_sum, masked_logsumexp(similarity, hidden, temperature))
    elif background_mode == 'topm':
        hidden = background == anchor[:, None] if exclusive else None
        log_ratio = chosen_sum - masked_logsumexp(similarity, hidden, temperature)
    else:
        background_sum = masked_logsumexp(similarity, None, temperature)
        if exclusive:
            own = bank_similarity(query, bank, anchor[:, None]).squeeze(1) / temperature
            background_sum = background_sum + torch.log1p(-(own - background_sum).exp())
        log_ratio = chosen_sum - background_sum
    return torch.where(has_positive, _negative_log(log_ratio, eps), 0.0)


def _cosine_margin(cosine: Tensor, margin: float) -> Tensor:
    return cosine - margin


def _arc_margin(cosine: Tensor, margin: float) -> Tensor:
    # Clamped, for the slope of the square root is infinite at 1, where a query meets its own row.
    sine = (1 - cosine.square()).clamp(min=SMALLEST_SINE**2).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    # Beyond these angles the cosine of the sum would turn back.
    if margin < 0:
        return torch.where(cosine < math.cos(margin), shifted, cosine + margin * math.sin(margin))
    edge = math.pi - margin
    return torch.where(cosine > math.cos(edge), shifted, cosine - margin * math.sin(edge))


MARGINS = {'cosine': _cosine_margin, 'arc': _arc_margin}


def margin_logit(positive: Tensor, margin: float, kind: str = 'cosine') -> Tensor:
    """Move the similarity of the positive away from (``margin`` > 0) or towards the query.

    - ``'cosine'`` (InterCLR, section 3.4): ``cos - m``.
    - ``'arc'`` (its code): ``cos(angle + m)`` while that falls with the angle. Beyond, a straight
      line: ``cos + m sin m`` where ``m < 0`` and ``cos >= cos m``; ``cos - m sin(pi - m)`` where
      ``m > 0`` and ``cos <= cos(pi - m)``. The pieces do not meet; the jump is the code's.

    Args:
        positive (Tensor): Float, any shape, cosines.
        margin (float): m; radians for ``'arc'``, within -pi to pi.
        kind (str): ``'cosine'`` or ``'arc'``. Defaults to ``'cosine'``.

    Returns:
        Tensor: float32, of the same shape.

    Raises:
        ValueError: If ``kind`` is unknown, or an arc margin is outside its range.

    Example:
        >>> margin_logit(torch.tensor([0.6]), margin=0.35)
        tensor([0.2500])
    """
    require_choice('kind', kind, MARGINS)
    if kind == 'arc' and abs(margin) > math.pi:
        raise ValueError(f'margin = {margin} is an angle for kind = {kind!r}: -pi to pi.')
    positive = positive.float()
    return MARGINS[kind](positive, margin) if margin else positive


def margin_nce(
    positive: Tensor,
    negative: Tensor,
    temperature: float,
    margin: float = 0.0,
    kind: str = 'cosine',
) -> Tensor:
    """MarginNCE of InterCLR (section 3.4): InfoNCE with a margin on the positive.

    ``L = -log(exp(f(s_pos) / t) / (exp(f(s_pos) / t) + sum_k exp(s_k / t)))`` with f from
    :func:`margin_logit`. A positive margin asks for more, a negative one for less; zero is InfoNCE.

    Args:
        positive (Tensor): Float, shape ``(B,)``, cosine of each query with its positive.
        negative (Tensor): Float, shape ``(B, K)``, cosines with its negatives.
        temperature (float): t, positive. The paper: 0.1.
        margin (float): m. Defaults to 0.
        kind (str): ``'cosine'`` or ``'arc'``. Defaults to ``'cosine'``.

    Returns:
        Tensor: float32, shape ``(B,)``.

    Raises:
        ValueError: If the shapes do not fit or ``temperature`` is not positive; see also
            :func:`margin_logit`.

    Example:
        >>> negative = torch.tensor([[0.5, 0.1, -0.3]])
        >>> margin_nce(torch.tensor([0.6]), negative, temperature=0.1, margin=0.35)
        tensor([2.5960])
    """
    require_length('positive', positive, len(negative), 'row of negative')
    require_positive('temperature', temperature, '0.1 or 0.2')
    logit = margin_logit(positive, margin, kind) / temperature
    return F.softplus(masked_logsumexp(negative.float(), None, temperature) - logit)


def _log_share(part: Tensor, rest: Tensor) -> Tensor:
    """``log(part / (part + rest))`` from the logs of both, exact to the last digits near 0."""
    return F.logsigmoid(part - rest)


def _negative_log(log_ratio: Tensor, eps: float) -> Tensor:
    """``-log(ratio + eps)`` from the log of the ratio."""
    if eps:
        log_ratio = torch.logaddexp(log_ratio, log_ratio.new_full((), math.log(eps)))
    return -log_ratio
