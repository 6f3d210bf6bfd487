import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from mmselfsup_invp.evaluation.average_precision import average_precision
from mmselfsup_invp.evaluation.svm import COSTS, SHOTS, LinearSVMs, few_shot_target, unit_features

ONE_JOB = dict(jobs=1, max_iter=500)


def problem(num=90, classes=3, noise=0.6, seed=0):
    """Features around a centre for each class, many labels an image."""
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(9).standard_normal((classes, 12))
    target = (random.random((num, classes)) < 0.4).astype(int)
    feature = target @ centre + noise * random.standard_normal((num, 12))
    return unit_features(feature), target


def reference_svm(cost, seed=0):
    return LinearSVC(
        C=cost, class_weight={1: 2, 0: 1}, dual=True, tol=1e-4, max_iter=500, random_state=seed
    )


def score(model, feature, own):
    return average_precision(model.decision_function(feature), own)


def test_the_costs_and_shots_are_those_of_the_protocol():
    assert COSTS[:4] == (1, 10, 100, 2**-4) and COSTS[-1] == 2**-19 and len(COSTS) == 19
    assert SHOTS == (1, 2, 4, 8, 16, 32, 64, 96)


@pytest.mark.parametrize(
    'option', [dict(costs=[]), dict(costs=[0.0]), dict(folds=0), dict(rule='')]
)
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=rf'\b{next(iter(option))} (= .* not valid|is empty)'):
        LinearSVMs(**option)


@pytest.mark.parametrize('jobs', [1, 2])
def test_each_cost_gives_the_svm_of_scikit_learn(jobs):
    train, test = problem(), problem(seed=1)
    costs = [0.5, 1e-3]
    svms = LinearSVMs(costs=costs, jobs=jobs, max_iter=500)
    found = svms.each_cost(train, test, seed=4)
    expected = [
        [
            100 * score(reference_svm(cost, 4).fit(train[0], own), test[0], test_own)
            for cost in costs
        ]
        for own, test_own in zip(train[1].T, test[1].T, strict=True)
    ]
    np.testing.assert_allclose(found, expected)
    assert found.shape == (3, 2) and not np.allclose(found[:, 0], found[:, 1])


@pytest.mark.parametrize(('folds', 'seed'), [(3, 0), (5, 2)])
def test_the_cost_of_each_class_is_that_of_a_grid_search(folds, seed):
    """On classes that do not all select the same cost."""
    (feature, target), test = problem(noise=1.5), problem(noise=1.5, seed=1)
    costs = [1e-6, 1e-4, 1e-2, 1.0, 100.0]
    svms = LinearSVMs(costs=costs, folds=folds, **ONE_JOB)
    chosen, expected = [], []
    for own, test_own in zip(target.T, test[1].T, strict=True):
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(reference_svm(1, seed), dict(C=costs), scoring=score, cv=splits)
        search.fit(feature, own)
        chosen.append(search.best_params_['C'])
        expected.append(100 * score(search.best_estimator_, test[0], test_own))
    assert len(set(chosen)) > 1
    np.testing.assert_allclose(svms.cross_validated((feature, target), test, seed), expected)


@pytest.mark.parametrize('positives', [1, 2])
def test_folds_are_limited_by_the_positives(positives):
    """With one positive there is nothing to validate on: the first cost is taken."""
    feature, test = problem()[0], problem(seed=1)
    target = np.zeros((len(feature), 1), dtype=int)
    target[:positives] = 1
    test = test[0], test[1][:, :1]
    costs = [1e-6, 10.0]
    found = LinearSVMs(costs=costs, **ONE_JOB).cross_validated((feature, target), test)
    each = LinearSVMs(costs=costs, **ONE_JOB).each_cost((feature, target), test)[0]
    assert each[0] != each[1] and found[0] in each
    if positives == 1:
        assert found[0] == each[0]


def test_ignored_images_change_nothing():
    (feature, target), test = problem(), problem(seed=1)
    extra = np.random.default_rng(2).standard_normal((30, 12))
    more = np.concatenate([feature, extra]), np.concatenate([target, np.full((30, 3), -1)])
    svms = LinearSVMs(costs=[1.0, 0.1], **ONE_JOB)
    for method in (svms.cross_validated, svms.each_cost):
        np.testing.assert_array_equal(method(more, test), method((feature, target), test))


@pytest.mark.parametrize('method', ['cross_validated', 'each_cost'])
@pytest.mark.parametrize(('value', 'name'), [(0, 'positive'), (1, 'negative')])
def test_a_class_without_examples_is_named(value, name, method):
    feature, target = problem()
    target[:, 1] = value
    with pytest.raises(ValueError, match=f'Class 1 has no {name} training image'):
        getattr(LinearSVMs(**ONE_JOB), method)((feature, target), (feature, target))


def test_features_have_almost_unit_length():
    feature = unit_features(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(feature, [[3 / 5.00001, 4 / 5.00001], [0, 0]])


class TestFewShots:
    def test_so_many_positives_and_negatives_of_each_class_remain(self):
        _, target = problem(num=200)
        few = few_shot_target(target, shots=4, seed=0)
        assert ((few == 1).sum(axis=0) == 4).all() and ((few == 0).sum(axis=0) == 8).all()
        assert (few[few >= 0] == target[few >= 0]).all()

    def test_too_few_negatives_are_all_kept(self):
        target = np.repeat([[1, 0], [0, 1]], [5, 2], axis=0)
        few = few_shot_target(target[:, :1], 2, seed=0)
        assert (few == 1).sum() == 2 and (few == 0).sum() == 0
        few = few_shot_target(np.concatenate([target[:, :1]] * 3, axis=1), 2, seed=0)
        assert ((few == 0).sum(axis=0) == 2).all()

    def test_another_seed_or_number_draws_others(self):
        _, target = problem(num=200)
        first, again, other = (few_shot_target(target, 4, seed) for seed in (0, 0, 1))
        assert (first == again).all() and (first != other).any()
        # Draws of fewer shots are not a part of those of more.
        one, two = (np.flatnonzero(few_shot_target(target, k, 0)[:, 0] == 1) for k in (8, 9))
        assert not set(one) <= set(two)

    def test_every_positive_has_the_same_probability(self):
        target = np.repeat([[1, 0], [0, 1]], 5, axis=0)
        counts = sum(few_shot_target(target, 2, seed)[:, 0] == 1 for seed in range(500))
        assert counts[5:].sum() == 0 and abs(counts[:5] - 200).max() < 45

    @pytest.mark.parametrize('shots', [0, 6])
    def test_too_many_shots_are_refused(self, shots):
        """Where the smallest class has five positives."""
        target = np.repeat([[1, 0], [0, 1]], [5, 7], axis=0)
        assert ((few_shot_target(target, 5, seed=0) == 1).sum(axis=0) == 5).all()
        with pytest.raises(ValueError, match=f'shots = {shots} must be 1 to 5'):
            few_shot_target(target, shots, seed=0)


def test_decision_values_are_those_of_the_selected_costs():
    train, test = problem(), problem(seed=1)
    svms = LinearSVMs(costs=[0.5, 1e-3], **ONE_JOB)
    values = svms.decision_values(train, test[0], seed=4)
    expected = svms.cross_validated(train, test, seed=4)
    found = [
        100 * average_precision(value, own) for value, own in zip(values.T, test[1].T, strict=True)
    ]
    np.testing.assert_allclose(found, expected)
