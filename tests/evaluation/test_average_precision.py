from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmselfsup_invp.evaluation import average_precision, mean_average_precision


def reference(score, target, rule):
    """By the definition, in fractions: for each recall the best precision there or beyond."""
    order = [i for i in sorted(range(len(score)), key=lambda i: -score[i]) if target[i] >= 0]
    positives = sum(target[i] == 1 for i in order)
    points, hits = [], 0
    for rank, i in enumerate(order, start=1):
        hits += int(target[i] == 1)
        points.append((Fraction(hits, int(positives)), Fraction(hits, rank)))
    steps = 10 if rule == '11points' else int(positives)
    recalls = [Fraction(step, steps) for step in range(rule == 'area', steps + 1)]
    best = [max(p for r, p in points if r >= recall) for recall in recalls]
    return float(sum(best) / len(best))


@pytest.mark.parametrize('rule', ['area', '11points'])
@pytest.mark.parametrize('seed', range(5))
def test_matches_the_definition(rule, seed):
    random = np.random.default_rng(seed)
    score, target = random.permutation(60) / 60, random.integers(-1, 2, 60)
    found = average_precision(score, target, rule)
    assert found == pytest.approx(reference(score, target, rule))


@pytest.mark.parametrize('positives', [10, 20, 30, 70])
def test_recalls_that_equal_a_level_reach_it(positives):
    """In floats 3 / 10 is below the level 0.3, and the precision would be that of the next hit."""
    target = np.repeat([[1], [0]], positives, axis=1).T.ravel()  # Every second image.
    score = np.linspace(1, 0, len(target))
    expected = reference(score, target, '11points')
    assert average_precision(score, target, '11points') == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('misses', [1, 3])
def test_golden_values(misses):
    """The first of two positives on rank 1, the second after so many negatives."""
    target = np.array([1] + [0] * misses + [1])
    score, last = np.linspace(1, 0, len(target)), 2 / (misses + 2)
    assert average_precision(score, target) == pytest.approx((1 + last) / 2)
    assert average_precision(score, target, '11points') == pytest.approx((6 + 5 * last) / 11)


def test_the_envelope_never_lowers_the_plain_average():
    random = np.random.default_rng(0)
    score, target = random.random(200), random.integers(0, 2, 200)
    assert average_precision(score, target) > average_precision_score(target, score)


def test_equal_scores_keep_their_order():
    target = np.array([0, 1] * 20)
    assert average_precision(np.zeros(40), target) == 0.5


def test_ignored_images_do_not_count():
    score, target = np.array([0.9, 0.8, 0.7, 0.6]), np.array([-1, 1, -1, 0])
    assert average_precision(score, target) == average_precision(score, target, '11points') == 1


@pytest.mark.parametrize('rule', ['area', '11points'])
def test_classes_without_a_positive_do_not_count(rule):
    score = np.random.default_rng(0).random((8, 3))
    target = np.zeros((8, 3), dtype=int)
    target[score[:, 1].argmax(), 1] = 1
    assert np.isnan(average_precision(score[:, 0], target[:, 0], rule))
    assert mean_average_precision(score, target, rule) == 100


@pytest.mark.parametrize('rule', ['area', '11points'])
def test_the_mean_is_over_classes(rule):
    random = np.random.default_rng(1)
    score, target = random.random((30, 4)), random.integers(0, 2, (30, 4))
    each = [average_precision(*pair, rule) for pair in zip(score.T, target.T, strict=True)]
    assert mean_average_precision(score, target, rule) == pytest.approx(100 * sum(each) / 4)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule = 'voc' is not valid.* 'area', '11points'"):
        average_precision(np.ones(2), np.ones(2), 'voc')
