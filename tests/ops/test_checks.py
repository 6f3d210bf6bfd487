import pytest
import torch

from mmselfsup_invp.ops.checks import require_features, require_range


@pytest.mark.parametrize('value', [1, 2, 5])
def test_both_ends_are_in_the_range(value):
    require_range('k', value, 1, 5, 'a bank of 6 rows has 5 other rows')


@pytest.mark.parametrize('value', [0, 6])
def test_range_message_says_what_is_valid_and_why(value):
    message = f'^k = {value} is outside the valid range 1 to 5: a bank of 6 rows has 5 other rows.$'
    with pytest.raises(ValueError, match=message):
        require_range('k', value, 1, 5, 'a bank of 6 rows has 5 other rows')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_float_matrices_are_features(dtype):
    require_features('bank', torch.ones(3, 4, dtype=dtype), dim=4)


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match='bank has 4 dimensions where 5 are needed: queries and'):
        require_features('bank', torch.ones(3, 4), dim=5)
