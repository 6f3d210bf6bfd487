"""Average precision of rankings, by the two rules of VOC."""

from collections.abc import Callable

import numpy as np

# Levels of recall that VOC 2007 averages over.
ELEVEN_LEVELS = np.linspace(0, 1, 11)


def average_precision(score: np.ndarray, target: np.ndarray, rule: str = 'area') -> float:
    """Average precision of one class.

    Precision at a recall is the highest at that recall or beyond (the monotone envelope of VOC).

    Args:
        score (ndarray): Float, shape ``(N,)``, the higher the surer.
        target (ndarray): Integer, shape ``(N,)``: 1 present, 0 absent, -1 ignored.
        rule (str): ``'area'``: area under the envelope, as VOC from 2010 on and the SVM of
            MMSelfSup; ``'11points'``: mean over recalls 0, 0.1, ... 1, as VOC 2007. Defaults to
            ``'area'``.

    Returns:
        float: 0 to 1; NaN where no image is positive.

    Raises:
        ValueError: If the rule is unknown.

    Example:
        >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]))
        0.8333333333333333
        >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]), '11points')
        0.8484848484848485
    """
    if rule not in RULES:
        raise ValueError(f'rule = {rule!r} is unknown; valid: {", ".join(RULES)}.')
    counted = target >= 0
    score, positive = score[counted], target[counted] > 0
    if not positive.any():
        return float('nan')
    order = np.argsort(-score, kind='stable')
    hits = positive[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return RULES[rule](envelope, hits / hits[-1])


def mean_average_precision(score: np.ndarray, target: np.ndarray, rule: str = 'area') -> float:
    """Mean over the classes of :func:`average_precision`, in percent.

    Args:
        score (ndarray): Float, shape ``(N, C)``.
        target (ndarray): Integer, shape ``(N, C)``; classes without a positive do not count.
        rule (str): See :func:`average_precision`.
    """
    classes = zip(score.T, target.T, strict=True)
    return float(np.nanmean([average_precision(*each, rule) for each in classes])) * 100


def _area(envelope: np.ndarray, recall: np.ndarray) -> float:
    return float((envelope * np.diff(recall, prepend=0)).sum())


def _eleven_points(envelope: np.ndarray, recall: np.ndarray) -> float:
    # A hair below, lest 3 / 10 miss the level 0.3.
    place = np.searchsorted(recall, ELEVEN_LEVELS - 1e-9)
    return float(envelope[place].mean())


RULES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    'area': _area,
    '11points': _eleven_points,
}
