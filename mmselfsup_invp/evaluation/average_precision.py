"""Average precision of rankings, by the two rules of VOC.

MMClassification's average precision lacks the monotone envelope of VOC. mmdet's needs compiled
operators, and its 11-point rule compares floats, so that a recall of 3 / 10 misses the level 0.3.
"""

from typing import Literal

import numpy as np

from ..options import check_option

Rule = Literal['area', '11points']


def average_precision(score: np.ndarray, target: np.ndarray, rule: str = 'area') -> float:
    """Average precision of one class.

    The precision at a recall is the highest at that recall or beyond (the envelope of VOC). Equal
    scores keep their order.

    Args:
        score (ndarray): Float, shape ``(N,)``, higher for images more likely of the class.
        target (ndarray): Integer, shape ``(N,)``: 1 present, 0 absent, -1 ignored.
        rule (str): ``'area'``: area under the envelope, as VOC from 2010 on and the SVM scripts of
            MMSelfSup; ``'11points'``: mean over recalls 0, 0.1, ... 1, as VOC 2007. Defaults to
            ``'area'``.

    Returns:
        float: 0 to 1; NaN if no image is positive.

    Raises:
        ValueError: If the rule is unknown.

    Example:
        >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]))
        0.8333333333333333
        >>> round(average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]), '11points'), 4)
        0.8485
    """
    check_option('average_precision', 'rule', rule, Rule)
    counted = target >= 0
    score, positive = score[counted], target[counted] > 0
    if not positive.any():
        return float('nan')
    positive = positive[np.argsort(-score, kind='stable')]
    hits = positive.cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if rule == 'area':
        return float(envelope[positive].mean())  # Each positive adds the same recall.
    # The first rank with hits / positives >= level / 10, in integers.
    rank = np.searchsorted(10 * hits, hits[-1] * np.arange(11))
    return float(envelope[rank].mean())


def mean_average_precision(score: np.ndarray, target: np.ndarray, rule: str = 'area') -> float:
    """Mean over the classes of :func:`average_precision`, in percent.

    Args:
        score (ndarray): Float, shape ``(N, C)``.
        target (ndarray): Integer, shape ``(N, C)``; classes without a positive do not count.
        rule (str): See :func:`average_precision`. Defaults to ``'area'``.
    """
    classes = zip(score.T, target.T, strict=True)
    return float(np.nanmean([average_precision(*each, rule) for each in classes])) * 100
