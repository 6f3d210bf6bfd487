"""Linear SVMs on frozen features, on all labels or on a few."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from ..options import PositiveFloat, PositiveInt, checked
from .average_precision import Rule, average_precision

# The costs of MMSelfSup's scripts.
COSTS = (1.0, 10.0, 100.0, *(2.0**-power for power in range(4, 20)))
SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
Split = tuple[np.ndarray, np.ndarray]


@checked
@dataclass(frozen=True)
class LinearSVMs:
    """One-against-the-rest linear SVMs: squared hinge loss, positives weighted by two.

    The classifiers of `arXiv:1905.01235 <https://arxiv.org/abs/1905.01235>`_ (section 6.2), whose
    protocols InterCLR follows. A data set is a pair of features, float, ``(N, D)``, see
    :func:`unit_features`, and targets, integer, ``(N, C)``: 1 present, 0 absent, -1 left out.

    Attributes:
        costs (Sequence[float]): Candidates for the cost. Defaults to the 19 of MMSelfSup.
        folds (int): Of the cross-validation; fewer if a class has fewer positives. Defaults to 3.
        max_iter (int): Of the solver. Defaults to 2000.
        rule (str): Of the average precision, see :func:`~.average_precision`. Defaults to
            ``'area'``.
        jobs (int): Processes; -1 for one a core. Defaults to -1.

    Raises:
        ValueError: If an attribute is out of range.
    """

    costs: Sequence[PositiveFloat] = COSTS
    folds: PositiveInt = 3
    max_iter: PositiveInt = 2000
    rule: Rule = 'area'
    jobs: int = -1

    def __post_init__(self) -> None:
        if not self.costs:
            raise ValueError('costs is empty; at least one is needed.')

    def cross_validated(self, train: Split, test: Split, seed: int = 0) -> np.ndarray:
        """Average precisions on the test set, ``(C,)``, in percent.

        The cost of each class is that with the highest mean average precision over the folds of the
        training set, the first of equal ones; with fewer than two positives the first of ``costs``.
        A class without a positive or a negative to learn from raises ``ValueError``.
        """
        chosen = self._select_costs(train, seed)
        return 100 * self._map(partial(self._score, train, test, seed=seed), chosen)

    def decision_values(self, train: Split, feature: np.ndarray, seed: int = 0) -> np.ndarray:
        """Distances of features ``(Q, D)`` to the hyperplanes, ``(Q, C)``; positive within a class.

        The cost of each class is selected as in :meth:`cross_validated`.
        """
        chosen = self._select_costs(train, seed)
        return self._map(partial(self._decide, train, feature, seed=seed), chosen).T

    def _select_costs(self, train: Split, seed: int) -> list[tuple[int, float]]:
        """Each class with its cost, by cross-validation."""
        _check_targets(train[1])
        classes = range(train[1].shape[1])
        candidates = [(own, cost) for own in classes for cost in self.costs]
        validation = self._map(partial(self._validate, train, seed=seed), candidates)
        best = validation.reshape(len(classes), -1).argmax(axis=1)
        return [(own, self.costs[index]) for own, index in zip(classes, best, strict=True)]

    def each_cost(self, train: Split, test: Split, seed: int = 0) -> np.ndarray:
        """Average precisions on the test set with every cost, ``(C, len(costs))``, in percent."""
        _check_targets(train[1])
        candidates = [(own, cost) for own in range(train[1].shape[1]) for cost in self.costs]
        scores = self._map(partial(self._score, train, test, seed=seed), candidates)
        return 100 * scores.reshape(-1, len(self.costs))

    def _map(
        self, score: Callable[[int, float], float | np.ndarray], pairs: Sequence[tuple[int, float]]
    ) -> np.ndarray:
        """Scores of pairs of a class and a cost, in parallel."""
        return np.array(Parallel(self.jobs)(delayed(score)(*pair) for pair in pairs))

    def fit(self, train: Split, cost: float, seed: int) -> LinearSVC:
        """The SVM of one class; its target has the shape ``(N,)``."""
        feature, own = train
        model = LinearSVC(
            C=cost,
            class_weight={1: 2, 0: 1},
            dual=True,
            tol=1e-4,
            max_iter=self.max_iter,
            random_state=seed,
        )
        return model.fit(feature[own >= 0], own[own >= 0])

    def _decide(
        self, train: Split, feature: np.ndarray, number: int, cost: float, seed: int
    ) -> np.ndarray:
        """Distances of features to the hyperplane of one class."""
        return self.fit((train[0], train[1][:, number]), cost, seed).decision_function(feature)

    def _score(self, train: Split, test: Split, number: int, cost: float, seed: int) -> float:
        """Average precision of one class on the test set, 0 to 1."""
        decision = self._decide(train, test[0], number, cost, seed)
        return average_precision(decision, test[1][:, number], self.rule)

    def _validate(self, train: Split, number: int, cost: float, seed: int) -> float:
        """Mean average precision of one class over the folds; 0 if there is nothing to choose."""
        labelled = train[1][:, number] >= 0
        feature, target = train[0][labelled], train[1][labelled]
        own = target[:, number]
        folds = min(self.folds, int(own.sum()), int((1 - own).sum()))
        if folds < 2 or len(self.costs) == 1:
            return 0.0
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(own, own)
        scores = [
            self._score(
                (feature[one], target[one]), (feature[two], target[two]), number, cost, seed
            )
            for one, two in splits
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
    arXiv:1905.01235, section 6.3). A class with too few negatives keeps them all; one with too few
    positives raises ``ValueError``. Targets, integer, ``(N, C)``, are 1 present, 0 absent, -1 left
    out.

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
