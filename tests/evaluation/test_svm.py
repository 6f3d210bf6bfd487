import numpy as np
import pytest
from sklearn.svm import LinearSVC

from mmselfsup_invp.evaluation.average_precision import average_precision
from mmselfsup_invp.evaluation.svm import COSTS, SVMProtocol, few_shot_target, unit_features

ONE_JOB = dict(jobs=1, max_iter=500)


def problem(num=90, classes=3, noise=0.6, seed=0):
    """Features around a centre for each class, many labels an image."""
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(9).standard_normal((classes, 12))
    target = (random.random((num, classes)) < 0.4).astype(int)
    feature = target @ centre + noise * random.standard_normal((num, 12))
    return unit_features(feature), target


def test_the_costs_are_those_of_the_protocol():
    assert len(COSTS) == 19 and set(COSTS) >= {1, 10, 100, 2**-4, 2**-19}


def test_one_cost_gives_the_svm_of_scikit_learn():
    feature, target = problem()
    test_feature, test_target = problem(seed=1)
    found = SVMProtocol(costs=[0.5], **ONE_JOB).average_precisions(
        feature, target, test_feature, test_target
    )
    for number in range(3):
        svm = LinearSVC(
            C=0.5, class_weight={1: 2, 0: 1}, dual=True, tol=1e-4, max_iter=500, random_state=0
        )
        svm.fit(feature, target[:, number])
        expected = average_precision(svm.decision_function(test_feature), test_target[:, number])
        assert found[number] == pytest.approx(100 * expected)


def test_the_cost_is_chosen_on_the_training_images():
    feature, target = problem(noise=1.5)
    protocol = SVMProtocol(costs=[1e-9, 1.0], **ONE_JOB)
    chosen = protocol._best_cost(feature, target[:, 0])
    scores = {}
    for cost in protocol.costs:
        alone = SVMProtocol(costs=[cost], **ONE_JOB)
        first, second = np.arange(0, 45), np.arange(45, 90)
        scores[cost] = alone.average_precisions(
            feature[first], target[first], feature[second], target[second]
        )[0]
    assert chosen == max(scores, key=scores.get)


def test_what_is_ignored_changes_nothing():
    feature, target = problem()
    test = problem(seed=1)
    extra = np.random.default_rng(2).standard_normal((30, 12))
    more = np.concatenate([feature, extra]), np.concatenate([target, np.full((30, 3), -1)])
    protocol = SVMProtocol(costs=[1.0], **ONE_JOB)
    assert protocol.average_precisions(*more, *test) == protocol.average_precisions(
        feature, target, *test
    )


@pytest.mark.parametrize(('value', 'name'), [(0, 'positive'), (1, 'negative')])
def test_a_class_without_examples_is_named(value, name):
    feature, target = problem()
    target[:, 1] = value
    with pytest.raises(ValueError, match=f'Class 1 has no {name} training image'):
        SVMProtocol(**ONE_JOB).average_precisions(feature, target, feature, target)


def test_features_have_almost_unit_length():
    feature = unit_features(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(feature, [[3 / 5.00001, 4 / 5.00001], [0, 0]])


class TestFewShots:
    def test_so_many_positives_and_negatives_of_each_class_remain(self):
        _, target = problem(num=200)
        few = few_shot_target(target, shots=4, seed=0)
        assert ((few == 1).sum(axis=0) == 4).all() and ((few == 0).sum(axis=0) == 8).all()
        assert (few[few >= 0] == target[few >= 0]).all()

    def test_another_seed_draws_others(self):
        _, target = problem(num=200)
        first, again, other = (few_shot_target(target, 4, seed) for seed in (0, 0, 1))
        assert (first == again).all() and (first != other).any()

    def test_every_positive_is_drawn_alike(self):
        target = np.repeat([[1, 0], [0, 1]], 5, axis=0)
        counts = sum(few_shot_target(target, 2, seed)[:, 0] == 1 for seed in range(500))
        assert counts[5:].sum() == 0 and abs(counts[:5] - 200).max() < 45

    def test_too_many_shots_are_refused(self):
        with pytest.raises(ValueError, match='shots = 6 must be 1 to 5'):
            few_shot_target(np.repeat([[1, 0], [0, 1]], 5, axis=0), 6, seed=0)
