"""Random subsets with the same share of every class."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np


def draw_per_class(labels: Sequence[int], count: Callable[[int], int], seed: int) -> list[int]:
    """Draw ``count(n)`` of the n images of each class, uniformly and without replacement.

    Returns the positions of the drawn images among the labels, ascending.

    Example:
        >>> len(draw_per_class([0, 0, 0, 1, 1], lambda n: n // 2, seed=0))
        2
    """
    labels = np.asarray(labels)
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    drawn = [random.choice(rows, count(len(rows)), replace=False).tolist() for rows in members]
    return sorted(chain.from_iterable(drawn))
