"""Linear SVMs on frozen features, on all labels or on a few."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from .average_precision import average_precision

# Costs among which each class chooses, as in the benchmark of Goyal et al.
COSTS = (1.0, 10.0, 100.0, *(2.0**-power for power in range(4, 20)))
SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)


@dataclass(frozen=True)
class SVMProtocol:
    """One-against-the-rest linear SVMs: squared hinge, positives weigh twice.

    The protocol of `arXiv:1905.01235 <https://arxiv.org/abs/1905.01235>`_ (section 6.2), which
    InterCLR follows.

    Attributes:
        costs (Sequence[float]): Of which each class takes the best by cross-validation.
        folds (int): Of the cross-validation; fewer where a class has fewer positives.
        max_iter (int): Of the solver.
        rule (str): Of the average precision; see :func:`~.average_precision`.
        jobs (int): Processes, each with classes of its own; -1 for one a core.
        seed (int): Of folds and solver.
    """

    costs: Sequence[float] = COSTS
    folds: int = 3
    max_iter: int = 2000
    rule: str = 'area'
    jobs: int = -1
    seed: int = 0

    def average_precisions(
        self,
        feature: np.ndarray,
        target: np.ndarray,
        test_feature: np.ndarray,
        test_target: np.ndarray,
    ) -> list[float]:
        """Train an SVM for each class and rank the test images by it.

        Args:
            feature (ndarray): Float, shape ``(N, D)``; see :func:`unit_features`.
            target (ndarray): Integer, shape ``(N, C)``: 1 present, 0 absent, -1 left out.
            test_feature (ndarray): Float, shape ``(M, D)``.
            test_target (ndarray): Integer, shape ``(M, C)``.

        Returns:
            list[float]: Average precision of each class, in percent.

        Raises:
            ValueError: If a class has no positive, or no negative, to learn from.
        """
        every = range(target.shape[1])
        return [
            value for _, value in self.each_class(feature, target, test_feature, test_target, every)
        ]

    def each_class(
        self,
        feature: np.ndarray,
        target: np.ndarray,
        test_feature: np.ndarray,
        test_target: np.ndarray,
        classes: Sequence[int],
    ) -> Iterator[tuple[int, float]]:
        """Do as :meth:`average_precisions` for some of the classes, as they get ready.

        Args:
            feature, target, test_feature, test_target (ndarray): See there.
            classes (Sequence[int]): Columns of the targets.

        Yields:
            tuple[int, float]: A class and its average precision, in percent, in this order.

        Raises:
            ValueError: If a class has no positive, or no negative, to learn from.
        """
        _check_targets(target)
        found = Parallel(n_jobs=self.jobs, return_as='generator')(
            delayed(self._one_class)(feature, target[:, own], test_feature, test_target[:, own])
            for own in classes
        )
        for own, value in zip(classes, found, strict=True):
            yield own, 100 * value

    def _one_class(
        self, feature: np.ndarray, own: np.ndarray, test_feature: np.ndarray, test: np.ndarray
    ) -> float:
        feature, own = feature[own >= 0], own[own >= 0]
        model = self._fit(feature, own, self._best_cost(feature, own))
        return average_precision(model.decision_function(test_feature), test, self.rule)

    def _best_cost(self, feature: np.ndarray, own: np.ndarray) -> float:
        """The cost with the best average precision on the folds; the first of equal ones."""
        folds = min(self.folds, int(own.sum()), int((1 - own).sum()))
        if folds < 2 or len(self.costs) == 1:
            return self.costs[0]
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=self.seed).split(own, own))

        def score(cost: float) -> float:
            models = ((self._fit(feature[train], own[train], cost), held) for train, held in splits)
            return np.mean(
                [
                    average_precision(model.decision_function(feature[held]), own[held], self.rule)
                    for model, held in models
                ]
            )

        return max(self.costs, key=score)

    def _fit(self, feature: np.ndarray, own: np.ndarray, cost: float) -> LinearSVC:
        model = LinearSVC(
            C=cost,
            class_weight={1: 2, 0: 1},
            dual=True,
            tol=1e-4,
            max_iter=self.max_iter,
            random_state=self.seed,
        )
        return model.fit(feature, own)


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
    arXiv:1905.01235, section 6.3); all its negatives are kept where there are too few.

    Args:
        target (ndarray): Integer, shape ``(N, C)``: 1 present, 0 absent, -1 left out.
        shots (int): k.
        seed (int): Of the draw.

    Returns:
        ndarray: int64, shape ``(N, C)``.

    Raises:
        ValueError: If a class has fewer positives than that.

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
