"""Linear SVMs on frozen features, on all labels or on a few."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from .average_precision import RULES, average_precision

# The costs of MMSelfSup's scripts.
COSTS = (1.0, 10.0, 100.0, *(2.0**-power for power in range(4, 20)))
SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)


@dataclass(frozen=True)
class LinearSVMs:
    """One-against-the-rest linear SVMs: squared hinge loss, positives weighted by two.

    The classifiers of `arXiv:1905.01235 <https://arxiv.org/abs/1905.01235>`_ (section 6.2), whose
    protocols InterCLR follows. Targets are integers, shape ``(N, C)``: 1 present, 0 absent, -1 left
    out. Features are floats, shape ``(N, D)``; see :func:`unit_features`.

    Attributes:
        costs (Sequence[float]): Candidates for the cost of the SVM. Defaults to the 19 of
            MMSelfSup.
        folds (int): Of the cross-validation; fewer where a class has fewer positives. Defaults
            to 3.
        max_iter (int): Of the solver. Defaults to 2000.
        rule (str): Of the average precision; see :func:`~.average_precision`. Defaults to
            ``'area'``.
        jobs (int): Processes; -1 for one a core. Defaults to -1.

    Raises:
        ValueError: If an attribute is out of range.
    """

    costs: Sequence[float] = COSTS
    folds: int = 3
    max_iter: int = 2000
    rule: str = 'area'
    jobs: int = -1

    def __post_init__(self) -> None:
        if not self.costs or not all(
            isinstance(cost, (int, float)) and 0 < cost < inf for cost in self.costs
        ):
            raise ValueError(f'costs = {self.costs} must be positive numbers, at least one.')
        for name in ('folds', 'max_iter'):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} = {value!r} must be an integer above 0.')
        if self.rule not in RULES:
            raise ValueError(f'rule = {self.rule!r} is unknown; valid: {", ".join(RULES)}.')

    def cross_validated(
        self,
        feature: np.ndarray,
        target: np.ndarray,
        test_feature: np.ndarray,
        test_target: np.ndarray,
        seed: int = 0,
    ) -> np.ndarray:
        """Average precisions on the test set; the cost of each class by cross-validation.

        The cost with the highest mean average precision over the folds of the training set is
        taken, the first of equal ones; with fewer than two positives the first of ``costs``.

        Args:
            feature, target, test_feature, test_target (ndarray): See the class.
            seed (int): Of folds and solver. Defaults to 0.

        Returns:
            ndarray: Float, shape ``(C,)``, in percent.

        Raises:
            ValueError: If a class has no positive, or no negative, to learn from.
        """
        _check_targets(target)
        best = self._grid(partial(_validate, self, feature, seed=seed), target.T).argmax(axis=1)
        score = partial(_score, self, feature, test_feature, seed=seed)
        classes = zip(target.T, test_target.T, strict=True)
        tasks = [
            delayed(score)(each, self.costs[index])
            for each, index in zip(classes, best, strict=True)
        ]
        return 100 * np.array(Parallel(self.jobs)(tasks))

    def each_cost(
        self,
        feature: np.ndarray,
        target: np.ndarray,
        test_feature: np.ndarray,
        test_target: np.ndarray,
        seed: int = 0,
    ) -> np.ndarray:
        """Average precisions on the test set with every cost.

        Args:
            feature, target, test_feature, test_target (ndarray): See the class.
            seed (int): Of folds and solver. Defaults to 0.

        Returns:
            ndarray: Float, shape ``(C, len(costs))``, in percent.

        Raises:
            ValueError: If a class has no positive, or no negative, to learn from.
        """
        _check_targets(target)
        classes = list(zip(target.T, test_target.T, strict=True))
        score = partial(_score, self, feature, test_feature, seed=seed)
        return 100 * self._grid(score, classes)

    def _grid(self, score: Callable[[Any, float], float], classes: Sequence) -> np.ndarray:
        """``score(one class, cost)`` of all classes and costs, ``(C, len(costs))``."""
        tasks = [delayed(score)(one, cost) for one in classes for cost in self.costs]
        return np.reshape(Parallel(self.jobs)(tasks), (len(classes), len(self.costs)))

    def fit(self, feature: np.ndarray, own: np.ndarray, cost: float, seed: int) -> LinearSVC:
        """The SVM of one class; ``own``, ``(N,)``, is its column of the target, of 0 and 1."""
        model = LinearSVC(
            C=cost,
            class_weight={1: 2, 0: 1},
            dual=True,
            tol=1e-4,
            max_iter=self.max_iter,
            random_state=seed,
        )
        return model.fit(feature, own)


def _score(
    svms: LinearSVMs,
    feature: np.ndarray,
    test_feature: np.ndarray,
    targets: tuple[np.ndarray, np.ndarray],
    cost: float,
    seed: int,
) -> float:
    """Average precision of one class on the test set, 0 to 1."""
    own, test_own = targets
    model = svms.fit(feature[own >= 0], own[own >= 0], cost, seed)
    return average_precision(model.decision_function(test_feature), test_own, svms.rule)


def _validate(
    svms: LinearSVMs, feature: np.ndarray, own: np.ndarray, cost: float, seed: int
) -> float:
    """Mean average precision of one class over the folds; 0 where there can be only one fold."""
    feature, own = feature[own >= 0], own[own >= 0]
    folds = min(svms.folds, int(own.sum()), int((1 - own).sum()))
    if folds < 2 or len(svms.costs) == 1:
        return 0.0
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(own, own)
    scores = [
        _score(svms, feature[train], feature[held], (own[train], own[held]), cost, seed)
        for train, held in splits
    ]
    return float(np.mean(scores))


def _check_targets(target: np.ndarray) -> None:
    for value, name in ((1, 'positive'), (0, 'negative')):
        lacking = np.flatnonzero(~(target == value).any(axis=0))
        if len(lacking):
            raise ValueError(
                f'Class {lacking[0]} has no {name} training image ({len(lacking)} of '
                f'{target.shape[1]} classes are so). Look at the labels, or at num_classes.'
            )


def unit_features(feature: np.ndarray) -> np.ndarray:
    """Scale features ``(N, D)`` to unit length; 1e-5 is added to the length, as in the protocol."""
    return feature / (np.linalg.norm(feature, axis=1, keepdims=True) + 1e-5)


def few_shot_target(target: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Keep ``shots`` positives of each class and ``(C - 1) * shots`` negatives; leave out the rest.

    Each class draws for itself, uniformly without replacement (the low-shot protocol of
    arXiv:1905.01235, section 6.3). A class with too few negatives keeps them all.

    Args:
        target (ndarray): Integer, shape ``(N, C)``: 1 present, 0 absent, -1 left out.
        shots (int): k.
        seed (int): Of the draw.

    Returns:
        ndarray: int64, shape ``(N, C)``.

    Raises:
        ValueError: If a class has fewer than ``shots`` positives.

    Example:
        >>> few_shot_target(np.array([[1, 0], [1, 0], [0, 1]]), shots=1, seed=0).clip(0).sum(axis=0)
        array([1, 1])
    """
    fewest = int((target == 1).sum(axis=0).min())
    if not 1 <= shots <= fewest:
        raise ValueError(
            f'shots = {shots} must be 1 to {fewest}: a class has {fewest} positive images.'
        )
    random = np.random.default_rng([seed, shots])
    chosen = np.full(target.shape, -1, dtype=np.int64)
    for own, out in zip(target.T, chosen.T, strict=True):
        for value, wanted in ((1, shots), (0, (target.shape[1] - 1) * shots)):
            rows = np.flatnonzero(own == value)
            out[random.choice(rows, min(wanted, len(rows)), replace=False)] = value
    return chosen
