import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmselfsup_invp.evaluation import average_precision, mean_average_precision


def reference(score, target, rule):
    """By the definition: for every level of recall the best precision that is reached there."""
    order = sorted(range(len(score)), key=lambda i: -score[i])
    order = [i for i in order if target[i] >= 0]
    positives = sum(target[i] == 1 for i in order)
    points, hits = [], 0
    for place, i in enumerate(order, start=1):
        hits += target[i] == 1
        points.append((hits / positives, hits / place))
    best = lambda level: max((p for r, p in points if r >= level - 1e-9), default=0)  # noqa: E731
    if rule == '11points':
        return sum(best(level / 10) for level in range(11)) / 11
    return sum(best(hit / positives) for hit in range(1, positives + 1)) / positives


@pytest.mark.parametrize('rule', ['area', '11points'])
@pytest.mark.parametrize('seed', range(5))
def test_it_is_what_the_definition_says(rule, seed):
    random = np.random.default_rng(seed)
    score, target = random.permutation(60) / 60, random.integers(-1, 2, 60)
    found = average_precision(score, target, rule)
    assert found == pytest.approx(reference(score, target, rule))


def test_the_envelope_never_lowers_the_plain_average():
    random = np.random.default_rng(0)
    score, target = random.random(200), random.integers(0, 2, 200)
    assert average_precision(score, target) >= average_precision_score(target, score)


@pytest.mark.parametrize('rule', ['area', '11points'])
def test_a_perfect_ranking_is_1(rule):
    target = np.array([1] * 3 + [0] * 7)
    assert average_precision(np.linspace(1, 0, 10), target, rule) == 1


def test_the_ignored_do_not_count():
    score, target = np.array([0.9, 0.8, 0.7, 0.6]), np.array([-1, 1, -1, 0])
    assert average_precision(score, target) == 1


def test_classes_without_a_positive_do_not_count():
    score = np.random.default_rng(0).random((8, 3))
    target = np.zeros((8, 3), dtype=int)
    target[score[:, 1].argmax(), 1] = 1
    assert np.isnan(average_precision(score[:, 0], target[:, 0]))
    assert mean_average_precision(score, target) == 100


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule = 'voc' is unknown; valid: area, 11points"):
        average_precision(np.ones(2), np.ones(2), 'voc')
