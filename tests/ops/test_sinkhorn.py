import itertools
import math

import pytest
import torch

from mmselfsup_invp.ops.sinkhorn import scale_classes, sinkhorn_labels

from . import reference
from .tools import Allocations

# C-G1, C-G2 and C-G3 of METHODS.
THREE = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]], dtype=torch.float64).log()
FOUR = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], dtype=torch.float64).log()
SIX = torch.tensor(
    [[2, 0, 0], [1.5, 0.2, 0], [1.2, 0.3, 0.1], [1, 0.9, 0], [0.8, 0.1, 0.7], [0.5, 0.4, 0.45]],
    dtype=torch.float64,
).log_softmax(dim=1)


def log_prob_of(rows, classes, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits.log_softmax(dim=1).to(dtype)


def plan(log_prob, lambd, tol, max_iter=10_000, criterion='official'):
    """Q at the stop, ``(N, K)``."""
    scaling = scale_classes(lambda: [log_prob], lambd, tol, max_iter, criterion)
    return (lambd * log_prob + scaling.log_class).softmax(dim=1) / len(log_prob)


class TestGoldenValues:
    def assert_plan(self, log_prob, lambd, tol, expected):
        torch.testing.assert_close(
            plan(log_prob, lambd, tol),
            torch.tensor(expected, dtype=torch.float64),
            atol=6e-7,
            rtol=0,
        )

    def test_first_pass(self):
        scaling = scale_classes(lambda: [THREE], 1, 0.1, 1, 'official')
        expected = torch.tensor([0.652174, 2.142857], dtype=torch.float64)
        torch.testing.assert_close(scaling.log_class.exp(), expected, atol=6e-7, rtol=0)
        assert scaling.errors == pytest.approx([0.496894], abs=6e-7) and not scaling.converged
        first = [[0.244186, 0.089147], [0.183007, 0.150327], [0.104478, 0.228856]]
        found = (THREE + scaling.log_class).softmax(dim=1) / 3
        torch.testing.assert_close(found, torch.tensor(first).double(), atol=6e-7, rtol=0)

    @pytest.mark.parametrize(
        ('lambd', 'tol', 'expected'),
        [
            (1, 1e-9, [[0.234484, 0.098849], [0.171071, 0.162263], [0.094446, 0.238888]]),
            (2, 1e-9, [[0.282104, 0.051229], [0.173672, 0.159661], [0.044224, 0.289110]]),
            (10, 1e-9, [[0.333233, 0.000100], [0.166748, 0.166585], [0.000018, 0.333315]]),
            (10, 0.1, [[0.333234, 0.000099], [0.167283, 0.166050], [0.000018, 0.333315]]),
        ],
    )
    def test_plan_of_three_images(self, lambd, tol, expected):
        self.assert_plan(THREE, lambd, tol, expected)

    @pytest.mark.parametrize(
        ('lambd', 'expected'),
        [
            (
                1,
                [
                    *([0.182580, 0.067420], [0.136550, 0.113450]),
                    *([0.103123, 0.146877], [0.077747, 0.172253]),
                ],
            ),
            (
                10,
                [
                    *([0.249995, 0.000005], [0.234084, 0.015916]),
                    *([0.015719, 0.234281], [0.000202, 0.249798]),
                ],
            ),
        ],
    )
    def test_plan_of_four_images(self, lambd, expected):
        self.assert_plan(FOUR, lambd, 1e-9, expected)

    @pytest.mark.parametrize(
        ('log_prob', 'lambd', 'tol', 'passes', 'errors'),
        [
            (THREE, 1, 0.1, 11, [0.496894, 0.0]),
            (THREE, 2, 0.1, 11, [0.882399, 1.613394e-5]),
            (THREE, 10, 0.1, 21, [1.299988, 0.195949, 0.003221]),
            (FOUR, 1, 0.1, 11, None),
            (FOUR, 10, 0.1, 21, None),
            (FOUR, 25, 0.1, 31, None),
            (FOUR, 10, 0.01, 41, [2.676924, 0.149829, 0.039706, 0.011087, 0.003109]),
            (SIX, 1, 0.1, 11, None),
            (SIX, 10, 0.1, 21, None),
            (SIX, 25, 0.1, 51, None),
        ],
    )
    def test_official_passes_and_errors(self, log_prob, lambd, tol, passes, errors):
        _, info = sinkhorn_labels(log_prob, lambd, tol, criterion='official')
        assert info.iterations == passes and info.converged
        if errors is not None:
            assert info.errors == pytest.approx(errors, abs=6e-7)

    @pytest.mark.parametrize('criterion', ['relative', 'official'])
    @pytest.mark.parametrize(
        ('log_prob', 'lambd', 'labels', 'cost'),
        [
            *((THREE, lambd, [0, 0, 1], None) for lambd in (1, 2, 10)),
            *((FOUR, lambd, [0, 0, 1, 1], 0.612192) for lambd in (1, 10, 25)),
            (SIX, 1, [0, 0, 0, 1, 2, 2], 0.698693),
            *((SIX, lambd, [0, 0, 1, 1, 2, 2], 0.848693) for lambd in (10, 25)),
        ],
    )
    def test_labels(self, criterion, log_prob, lambd, labels, cost):
        label, info = sinkhorn_labels(log_prob, lambd, 0.01, criterion=criterion)
        assert label.dtype == torch.int64 and label.tolist() == labels
        assert info.sizes.tolist() == label.bincount().tolist()
        if cost:
            assert info.cost == pytest.approx(cost, abs=6e-7)


class TestReference:
    @pytest.mark.parametrize(('rows', 'classes', 'lambd'), [(40, 5, 3), (37, 4, 10), (9, 9, 1)])
    def test_equals_the_official_loop_in_float64(self, rows, classes, lambd):
        log_prob = log_prob_of(rows, classes)
        expected = reference.sinkhorn(log_prob.exp(), lambd, 0.01)
        label, info = sinkhorn_labels(log_prob, lambd, 0.01, criterion='official')
        assert label.tolist() == expected['labels'] and info.iterations == expected['passes'] > 1
        assert info.errors == pytest.approx(expected['errors'], rel=1e-6)
        found = plan(log_prob, lambd, 0.01)
        torch.testing.assert_close(found, expected['plan'])

    def test_relative_error_is_that_of_the_column_sums(self):
        log_prob = log_prob_of(50, 6)
        for passes in (1, 3, 8):
            _, info = sinkhorn_labels(log_prob, 8, 1e-12, passes)
            columns = plan(log_prob, 8, 1e-12, passes, 'relative').sum(dim=0)
            assert info.error == pytest.approx(float((6 * columns - 1).abs().mean()), rel=1e-9)
            assert len(info.errors) == info.iterations == passes and not info.converged

    def test_the_plan_has_its_marginals(self):
        found = plan(log_prob_of(45, 7), 5, 1e-9, criterion='relative')
        torch.testing.assert_close(found.sum(dim=0), torch.full((7,), 1 / 7).double())
        torch.testing.assert_close(found.sum(dim=1), torch.full((45,), 1 / 45).double())

    def test_the_error_does_not_depend_on_the_number_of_images(self):
        log_prob = log_prob_of(30, 4)
        one, many = (
            sinkhorn_labels(part, 10, 1e-3)[1] for part in (log_prob, log_prob.repeat(9, 1))
        )
        assert one.iterations == many.iterations
        assert many.errors == pytest.approx(one.errors)
        # The official one is a sum over them.
        one, many = (
            sinkhorn_labels(part, 10, 1e-9, 21, criterion='official')[1]
            for part in (log_prob, log_prob.repeat(9, 1))
        )
        assert many.errors == pytest.approx([9 * error for error in one.errors])


class TestNumbers:
    def test_probabilities_whose_power_is_zero(self):
        """Trap 1 of METHODS C7: the linear loop divides by a row of zeros."""
        tiny = torch.tensor([1e-14, 2e-14], dtype=torch.float64)
        prob = torch.stack([1 - tiny, tiny], dim=1)
        assert (prob[:, 1] ** 25 == 0).all()
        with pytest.raises(ValueError, match='all-NaN'):
            reference.sinkhorn(prob, 25, 0.1)
        for log_prob in (prob.log(), prob.log().float()):
            label, info = sinkhorn_labels(log_prob)
            assert label.tolist() == [0, 1] and info.converged

    def test_a_class_that_no_image_likes(self):
        log_prob = log_prob_of(64, 4, dtype=torch.float32)
        log_prob[:, 2] -= 80  # e^-80 to the 25th is far below what float64 can hold.
        _, info = sinkhorn_labels(log_prob.log_softmax(dim=1), tol=1e-3)
        assert info.converged and info.sizes.min() >= 12

    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
    def test_narrow_types_are_computed_in_float32(self, dtype):
        log_prob = log_prob_of(60, 5).to(dtype)
        wide = sinkhorn_labels(log_prob.double(), 10, 1e-3)
        label, info = sinkhorn_labels(log_prob, 10, 1e-3)
        assert torch.equal(label, wide[0])
        assert info.errors == pytest.approx(wide[1].errors, rel=1e-2, abs=1e-6)

    @pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_refused(self, value):
        log_prob = log_prob_of(6, 2)
        log_prob[4, 1] = value
        with pytest.raises(ValueError, match='contain NaN or Inf.*learning rate.*log_softmax'):
            sinkhorn_labels(log_prob)

    def test_the_number_of_passes_is_capped(self):
        label, info = sinkhorn_labels(FOUR, 25, 1e-12, 7)
        assert info.iterations == 7 and not info.converged and info.error > 1e-12
        assert label.tolist() == [0, 0, 1, 1]

    def test_ties_go_to_the_first_class(self):
        label, info = sinkhorn_labels(torch.full((6, 3), 1 / 3).log())
        assert label.tolist() == [0] * 6 and info.sizes.tolist() == [6, 0, 0]
        assert info.iterations == 1 and info.error == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize('balanced', [False, True])
    def test_one_class(self, balanced):
        label, info = sinkhorn_labels(torch.zeros(5, 1), balanced=balanced)
        assert label.tolist() == [0] * 5 and info.sizes.tolist() == [5] and info.cost == 0

    def test_one_image_a_class(self):
        log_prob = log_prob_of(4, 4, scale=1)
        best = min(itertools.permutations(range(4)), key=lambda p: cost_of(log_prob, p))
        label, _ = sinkhorn_labels(log_prob, 60, 1e-6, 100_000)
        assert tuple(label.tolist()) == best


class TestBlocks:
    @pytest.mark.parametrize('criterion', ['relative', 'official'])
    @pytest.mark.parametrize('balanced', [False, True])
    def test_the_size_of_blocks_does_not_matter(self, criterion, balanced):
        log_prob = log_prob_of(53, 4)
        options = dict(lambd=8, criterion=criterion, balanced=balanced)
        label, info = sinkhorn_labels(log_prob, **options)
        for elements in (1, 20, 10**6):
            other, same = sinkhorn_labels(log_prob, max_elements=elements, **options)
            assert torch.equal(other, label)
            assert same.iterations == info.iterations
            assert same.errors == pytest.approx(info.errors)
            assert same.cost == pytest.approx(info.cost)

    @pytest.mark.parametrize('balanced', [False, True])
    def test_a_function_may_give_the_blocks(self, balanced):
        feature = torch.randn(41, 8, generator=torch.Generator().manual_seed(1))
        weight = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
        expected = sinkhorn_labels((feature @ weight.T).log_softmax(1), balanced=balanced)

        def blocks():
            for part in feature.split(7):
                yield (part @ weight.T).log_softmax(dim=1)

        label, info = sinkhorn_labels(blocks, balanced=balanced)
        assert torch.equal(label, expected[0])
        assert info.iterations == expected[1].iterations

    @pytest.mark.parametrize('balanced', [False, True])
    def test_nothing_of_the_whole_size_is_allocated(self, balanced):
        log_prob = log_prob_of(4000, 16, dtype=torch.float32)
        with Allocations() as allocations:
            sinkhorn_labels(log_prob, 10, max_elements=1600, balanced=balanced)
        assert allocations.largest <= 4000  # One entry an image.

    def test_the_input_is_left_alone(self):
        log_prob = log_prob_of(30, 3)
        before = log_prob.clone()
        sinkhorn_labels(log_prob, balanced=True)
        assert torch.equal(log_prob, before)


def cost_of(log_prob, labels):
    return -sum(float(log_prob[i, y]) for i, y in enumerate(labels)) / len(log_prob)


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


@pytest.mark.parametrize(
    ('log_prob', 'options', 'message'),
    [
        (torch.zeros(2, 3), {}, '2 images cannot be shared equally among K = 3 .* 1 to 2'),
        (torch.zeros(0, 3), {}, '0 images cannot be shared'),
        (torch.zeros(3), {}, 'log_prob must be a floating point matrix'),
        (torch.zeros(3, 2, dtype=torch.int64), {}, 'log_prob must be a floating point matrix'),
        (FOUR, dict(criterion='absolute'), "criterion = 'absolute' is unknown; valid: 'relative'"),
        (FOUR, dict(lambd=0), 'lambd = 0 must be positive'),
        (FOUR, dict(tol=-1), 'tol = -1 must be positive'),
        (FOUR, dict(max_iter=0), 'max_iter = 0 is outside'),
        (lambda: [], {}, '0 images cannot be shared'),
    ],
)
def test_wrong_input_is_named(log_prob, options, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn_labels(log_prob, **options)
