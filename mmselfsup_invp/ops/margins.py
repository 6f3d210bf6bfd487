"""The contrastive loss of InterCLR (`arXiv:2008.11702`_): InfoNCE with a margin on the positive.

.. _arXiv:2008.11702: https://arxiv.org/abs/2008.11702
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Choice, PositiveFloat, check_option
from .checks import require_length
from .similarity import masked_logsumexp

# Lower bound of the sine in the arc margin.
MIN_SINE = 1e-4


def _cosine_margin(cosine: Tensor, margin: float) -> Tensor:
    return cosine - margin


def _arc_margin(cosine: Tensor, margin: float) -> Tensor:
    # Clamped because the derivative of the square root is infinite where the cosine is 1.
    sine = (1 - cosine.square()).clamp(min=MIN_SINE**2).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    # Beyond these angles cos(angle + margin) is no longer monotonic.
    if margin < 0:
        return torch.where(cosine < math.cos(margin), shifted, cosine + margin * math.sin(margin))
    edge = math.pi - margin
    return torch.where(cosine > math.cos(edge), shifted, cosine - margin * math.sin(edge))


MARGINS = {'cosine': _cosine_margin, 'arc': _arc_margin}
Margin = Annotated[str, Choice(MARGINS)]


def margin_logit(positive: Tensor, margin: float, kind: str = 'cosine') -> Tensor:
    """Apply the margin m to cosines of positives, float of any shape; float32.

    - ``'cosine'`` (InterCLR, section 3.3): ``cos - m``.
    - ``'arc'`` (the InterCLR code): ``cos(angle + m)`` where that decreases with the angle; m is in
      radians, within -pi to pi. Elsewhere it is linear in the cosine: ``cos + m sin m`` for
      ``m < 0`` and ``cos >= cos m``; ``cos - m sin(pi - m)`` for ``m > 0`` and
      ``cos <= cos(pi - m)``. The two pieces do not join, as in the code.

    An unknown kind, or an arc margin outside its range, raises ``ValueError``.
    """
    check_option('margin_logit', 'kind', kind, Margin)
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
    """Compute MarginNCE of InterCLR (section 3.3): InfoNCE with a margin on the positive.

    ``L = -log(exp(f(s_pos) / t) / (exp(f(s_pos) / t) + sum_k exp(s_k / t)))`` with f from
    :func:`margin_logit`. A positive margin makes the task harder, a negative one easier; 0 is
    InfoNCE.

    Args:
        positive (Tensor): Float, shape ``(B,)``, cosine of each query with its positive.
        negative (Tensor): Float, shape ``(B, K)``, cosines with its negatives.
        temperature (float): t, positive. The paper: 0.1.
        margin (float): m. Defaults to 0.
        kind (str): ``'cosine'`` or ``'arc'``. Defaults to ``'cosine'``.

    Returns:
        Tensor: float32, shape ``(B,)``.

    Raises:
        ValueError: If the shapes do not match or ``temperature`` is not positive; see also
            :func:`margin_logit`.

    Example:
        >>> negative = torch.tensor([[0.5, 0.1, -0.3]])
        >>> margin_nce(torch.tensor([0.6]), negative, temperature=0.1, margin=0.35)
        tensor([2.5960])
    """
    require_length('positive', positive, len(negative), 'row of negative')
    check_option('margin_nce', 'temperature', temperature, PositiveFloat)
    logit = margin_logit(positive, margin, kind) / temperature
    return F.softplus(masked_logsumexp(negative.float(), None, temperature) - logit)
