"""Labels in classes of equal size."""

import itertools

import pytest
import torch

from mmselfsup_invp.ops.sinkhorn import sinkhorn_labels

from .plans import SIX, cost_of, log_prob_of


def cheapest(log_prob):
    """The lowest cost of all assignments with sizes floor(N / K) and ceil(N / K)."""
    num, classes = log_prob.shape
    low, high = num // classes, -(-num // classes)
    return min(
        cost_of(log_prob, labels)
        for labels in itertools.product(range(classes), repeat=num)
        if all(low <= labels.count(y) <= high for y in range(classes))
    )


class TestBalanced:
    @pytest.mark.parametrize(('rows', 'classes'), [(60, 6), (61, 6), (65, 6), (7, 7), (50, 1)])
    def test_sizes_are_equal(self, rows, classes):
        for seed in range(5):
            label, info = sinkhorn_labels(log_prob_of(rows, classes, seed), 5, balanced=True)
            low, extra = divmod(rows, classes)
            sizes = label.bincount(minlength=classes)
            assert sorted(sizes.tolist()) == [low] * (classes - extra) + [low + 1] * extra
            assert torch.equal(info.sizes, sizes)

    def test_close_to_the_cheapest_of_all(self):
        """Where N is a multiple of K, most small problems are solved exactly, none is far off."""
        excess = []
        for seed in range(40):
            log_prob = log_prob_of(*((6, 3) if seed % 2 else (8, 2)), seed)
            _, info = sinkhorn_labels(log_prob, 10, 1e-4, balanced=True)
            excess.append(info.cost / cheapest(log_prob) - 1)
        excess = torch.tensor(excess)
        assert excess.min() > -1e-9 and excess.max() < 0.05
        assert (excess < 1e-9).float().mean() > 0.9

    def test_near_the_optimum_of_larger_problems(self):
        optimize = pytest.importorskip('scipy.optimize')
        for seed in range(5):
            log_prob = log_prob_of(600, 6, seed)
            seats = -log_prob.repeat_interleave(100, dim=1).numpy()
            best = seats[optimize.linear_sum_assignment(seats)].mean()
            _, info = sinkhorn_labels(log_prob, 25, 1e-4, balanced=True)
            assert best - 1e-9 <= info.cost < 1.03 * best

    def test_labels_that_are_equal_already_stay(self):
        plain, info = sinkhorn_labels(SIX, 25)
        assert info.sizes.tolist() == [2, 2, 2]
        assert torch.equal(sinkhorn_labels(SIX, 25, balanced=True)[0], plain)

    def test_who_loses_least_has_to_move(self):
        """C-G3 with lambda 1: class 0 has three of six images, the third likes it least."""
        label, info = sinkhorn_labels(SIX, 1, balanced=True)
        assert label.tolist() == [0, 0, 1, 1, 2, 2]
        assert info.cost == pytest.approx(cheapest(SIX))

    def test_ties_are_shared_out_in_order(self):
        label, info = sinkhorn_labels(torch.full((7, 3), 1 / 3).log(), balanced=True)
        assert label.tolist() == [0, 0, 0, 1, 1, 2, 2] and info.sizes.tolist() == [3, 2, 2]

    def test_costs_little_where_the_plan_is_decided(self):
        log_prob = log_prob_of(2000, 10)
        free, equal = (sinkhorn_labels(log_prob, 25, 1e-3, balanced=b)[1] for b in (False, True))
        assert free.sizes.max() > 200 and equal.sizes.unique().tolist() == [200]
        assert free.cost <= equal.cost < 1.01 * free.cost
