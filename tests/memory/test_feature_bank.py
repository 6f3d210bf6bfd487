import math

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.memory import FeatureBank

from .tools import DTYPES, NOT_FINITE, rows


def bank_of(length=10, dim=4, **options):
    return FeatureBank(dim, length, **options)


class TestInitialRows:
    def test_unit_rows_are_unit_and_have_no_common_direction(self):
        bank = bank_of(4000, 128).bank
        torch.testing.assert_close(bank.norm(dim=1), torch.ones(4000))
        # In units of the standard error of the mean.
        assert bank.mean(dim=0).norm() < 1.2 / math.sqrt(4000)

    def test_uniform_rows_are_those_of_the_official_code(self):
        bank = bank_of(2000, 128, init='uniform').bank
        assert bank.abs().max() <= 0.153094
        assert bank.max() > 0.1530 and bank.min() < -0.1530
        torch.testing.assert_close(bank.square().sum(1).mean().item(), 1.0, atol=3e-3, rtol=0)
        assert bank.norm(dim=1).std() > 0.02, 'not normalised'
        torch.testing.assert_close(bank.std().item(), 0.153093 / 3**0.5, atol=3e-4, rtol=0)


@pytest.mark.parametrize(
    ('momentum', 'expected'),
    [(0.5, (0.894427, 0.447214)), (0.9, (0.996546, 0.083045)), (1.0, (1, 0)), (0.0, (0.6, 0.8))],
)
def test_momentum_weighs_the_old_row(momentum, expected):
    """METHODS, A-G7."""
    bank = bank_of(2, 2, momentum=momentum)
    bank.bank.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    bank.update(torch.tensor([1]), torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(bank.bank[1], torch.tensor(expected).float(), atol=1e-6, rtol=0)
    assert torch.equal(bank.bank[0], torch.tensor([0.0, 1.0]))


def test_the_default_momentum_is_the_official_one():
    assert FeatureBank().momentum == 0.5 and FeatureBank().bank.shape == (0, 128)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('delayed', [False, True])
@pytest.mark.parametrize('order', [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_an_update_equals_a_loop_over_the_batch(dtype, delayed, order):
    """The first of equal images is written, computed in float32 and rounded once."""
    bank = bank_of(dtype=dtype, delayed=delayed, momentum=0.7)
    sample_idx, feature = torch.tensor([7, 2, 7, 7, 5])[order], rows(5, seed=2)[order]
    expected = bank.bank.clone()
    for position in range(4, -1, -1):  # The first is written last.
        old = bank.bank[sample_idx[position]].double()
        total = 0.7 * old + 0.3 * feature[position].double()
        expected[sample_idx[position]] = (total / total.norm()).to(expected.dtype)
    before = bank.bank.clone()
    bank.update(sample_idx, feature)
    assert torch.equal(bank.bank, before) == delayed
    bank.end_epoch()
    assert bank.bank.dtype == getattr(torch, dtype)
    error = dict(float32=1e-6, float16=2**-11, bfloat16=2**-8)[dtype]  # Of the last digit.
    torch.testing.assert_close(bank.bank, expected, atol=error, rtol=0)
    unchanged = [row for row in range(10) if row not in sample_idx]
    assert torch.equal(bank.bank[unchanged], before[unchanged])


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
@pytest.mark.parametrize('delayed', [False, True])
def test_a_step_in_16_bits_is_that_of_float32_rounded_once(dtype, delayed):
    bank, exact = bank_of(dim=64, dtype=dtype, delayed=delayed), bank_of(dim=64)
    exact.bank.copy_(bank.bank)
    for each in (bank, exact):
        each.update(torch.tensor([3, 0, 9]), rows(3, 64, seed=1))
        each.end_epoch()
    assert torch.equal(bank.bank, exact.bank.to(bank.bank.dtype))
    assert (exact.bank != bank.bank.float()).any(), 'rounding has an effect'


@pytest.mark.parametrize('bad', NOT_FINITE)
@pytest.mark.parametrize('delayed', [False, True])
def test_features_that_are_not_finite_change_nothing(bad, delayed):
    bank, reference = bank_of(delayed=delayed), bank_of(delayed=delayed)
    feature = rows(4, seed=6)
    reference.update(torch.tensor([4, 1]), feature[[0, 2]])
    feature[1, 2] = feature[3, 0] = bad
    bank.update(torch.tensor([4, 9, 1, 9]), feature)
    for each in (bank, reference):
        each.end_epoch()
    assert torch.equal(bank.bank, reference.bank)


def test_a_repeat_takes_the_first_feature_even_if_that_is_not_finite():
    bank = bank_of()
    before, feature = bank.bank.clone(), rows(2)
    feature[0] = math.nan
    bank.update(torch.tensor([3, 3]), feature)
    assert torch.equal(bank.bank, before)


def test_only_valid_rows_are_written():
    bank, reference = bank_of(), bank_of()
    feature, valid = rows(4), torch.tensor([True, False, True, True])
    bank.update(torch.tensor([0, 1, 2, 1]), feature, valid)
    reference.update(torch.tensor([0, 2]), feature[[0, 2]])
    assert torch.equal(bank.bank, reference.bank), 'the second of row 1 does not replace the first'


def test_features_keep_no_autograd_graph():
    bank = bank_of()
    bank.update(torch.tensor([0, 1]), rows(2).requires_grad_() * 1)
    assert not bank.bank.requires_grad


def test_a_delayed_row_averages_the_row_of_the_last_epoch():
    """A row that is seen twice takes the later feature: neither update sees the other."""
    bank = bank_of(delayed=True)
    before, feature = bank.bank[4].clone(), rows(2, seed=5)
    for one in feature:
        bank.update(torch.tensor([4]), one[None])
    bank.end_epoch()
    torch.testing.assert_close(bank.bank[4], F.normalize(before + feature[1], dim=0))


def test_half_precision_of_the_module_is_that_of_new_rows():
    bank = FeatureBank(4).half()
    bank.resize(7)
    bank.update(torch.tensor([3]), rows(1))
    assert bank.bank.dtype == torch.float16


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(init='zeros'), "init = 'zeros' is not valid. It must be one of 'unit', 'uniform'"),
        (dict(momentum=1.5), 'momentum = 1.5 is not valid. It must be a finite number from 0 to 1'),
        (dict(momentum=-0.1), 'momentum = -0.1'),
        (dict(feat_dim=0), 'feat_dim = 0 is not valid'),
        (
            dict(dtype='int8'),
            "dtype = 'int8' is not valid. It must be one of 'float32', 'float16', 'bfloat16'",
        ),
        (dict(dtype=torch.float64), "dtype = 'float64' is not valid"),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        FeatureBank(**option)


def test_a_type_may_be_given_as_such():
    assert FeatureBank(dtype=torch.float16).bank.dtype == torch.float16


def test_replaced_rows_stay_when_the_epoch_ends():
    bank = bank_of(delayed=True)
    bank.update(torch.tensor([2]), -bank.bank[2:3])
    feature = rows(len(bank), bank.feat_dim)
    bank.replace(feature)
    bank.end_epoch()
    assert torch.equal(bank.bank, feature)
