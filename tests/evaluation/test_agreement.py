import itertools
import math

import pytest
import torch

from mmselfsup_invp.evaluation import cluster_agreement

TRUTH = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])


def entropy(*groups):
    """Of the joint distribution of several labellings."""
    rows = list(zip(*(group.tolist() for group in groups), strict=True))
    shares = [rows.count(row) / len(rows) for row in set(rows)]
    return -sum(share * math.log(share) for share in shares)


def nmi(label, truth):
    own = [entropy(label), entropy(truth)]
    return 100 * (sum(own) - entropy(label, truth)) / (sum(own) / 2)


def rand_index(label, truth):
    """Adjusted, from all pairs of images."""
    pairs = list(itertools.combinations(range(len(label)), 2))
    both = sum(bool(label[i] == label[j] and truth[i] == truth[j]) for i, j in pairs)
    one, other = (sum(bool(x[i] == x[j]) for i, j in pairs) for x in (label, truth))
    chance = one * other / len(pairs)
    return 100 * (both - chance) / ((one + other) / 2 - chance)


def best_pairing(label, truth):
    """Percent right under the best one-to-one naming of clusters, tried one by one."""
    clusters, classes = int(label.max()) + 1, int(truth.max()) + 1
    names = [*range(classes), *[-1] * max(clusters - classes, 0)]
    return max(
        100 * sum(naming[y] == t for y, t in zip(label.tolist(), truth.tolist(), strict=True))
        for naming in itertools.permutations(names, clusters)
    ) / len(label)


def test_the_same_partition_by_other_names_is_perfect():
    figures = cluster_agreement(torch.tensor([2, 2, 2, 0, 0, 0, 1, 1, 1]), TRUTH)
    assert set(figures) == {'nmi', 'adjusted_nmi', 'ari', 'accuracy'}
    assert all(value == pytest.approx(100) for value in figures.values())


@pytest.mark.parametrize('clusters', [2, 3, 5])
def test_figures_equal_their_definitions(clusters):
    for _ in range(5):
        label = torch.randint(clusters, (9,))
        label[:clusters] = torch.arange(clusters)
        figures = cluster_agreement(label, TRUTH)
        assert figures['nmi'] == pytest.approx(nmi(label, TRUTH))
        assert figures['ari'] == pytest.approx(rand_index(label, TRUTH))
        assert figures['accuracy'] == pytest.approx(best_pairing(label, TRUTH))


def test_only_what_is_adjusted_is_zero_by_chance():
    truth, label = torch.randint(10, (2000,)), torch.randint(100, (2000,))
    figures = cluster_agreement(label, truth)
    assert abs(figures['adjusted_nmi']) < 1 and abs(figures['ari']) < 1
    assert figures['nmi'] > 4 * abs(figures['adjusted_nmi'])


def test_one_cluster_says_nothing():
    figures = cluster_agreement(torch.zeros(9, dtype=torch.int64), TRUTH)
    assert figures['nmi'] == figures['adjusted_nmi'] == figures['ari'] == 0
    assert figures['accuracy'] == pytest.approx(100 / 3)


def test_names_of_clusters_need_not_be_dense():
    label = torch.tensor([7, 7, 7, 2, 2, 2, 99, 99, 99])
    assert cluster_agreement(label, TRUTH)['accuracy'] == 100


def test_the_adjusted_information_may_be_left_out():
    assert set(cluster_agreement(TRUTH, TRUTH, adjusted=False)) == {'nmi', 'ari', 'accuracy'}


@pytest.mark.parametrize('label', [torch.zeros(8), torch.zeros(9, 1)])
def test_wrong_shapes_are_named(label):
    with pytest.raises(ValueError, match=r'found shapes \(.*\) and \(9,\)'):
        cluster_agreement(label.long(), TRUTH)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match='at least 1'):
        cluster_agreement(TRUTH[:0], TRUTH[:0])
