import itertools
import math

import pytest
import torch

from mmselfsup_invp.ops.sinkhorn import sinkhorn_labels

from . import reference
from .plans import FOUR, cost_of, log_prob_of, plan
from .tools import Allocations


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


@pytest.mark.parametrize(
    ('log_prob', 'options', 'message'),
    [
        (torch.zeros(2, 3), {}, '2 images cannot be shared equally among K = 3 .* 1 to 2'),
        (torch.zeros(0, 3), {}, '0 images cannot be shared'),
        (torch.zeros(3), {}, 'log_prob must be a floating point matrix'),
        (torch.zeros(3, 2, dtype=torch.int64), {}, 'log_prob must be a floating point matrix'),
        (FOUR, dict(criterion='absolute'), "criterion = 'absolute' is not valid.* 'relative'"),
        (FOUR, dict(lambd=0), 'lambd = 0 is not valid.* above 0'),
        (FOUR, dict(tol=-1), 'tol = -1 is not valid'),
        (FOUR, dict(max_iter=0), 'max_iter = 0 is not valid'),
        (lambda: [], {}, '0 images cannot be shared'),
    ],
)
def test_wrong_input_is_named(log_prob, options, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn_labels(log_prob, **options)
