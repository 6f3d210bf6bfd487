import math

import pytest
import torch

pytest.importorskip('triton')

from mmselfsup_invp.ops.search.triton_common import dim_options  # noqa: E402


@pytest.mark.parametrize('most', [32, 64, 128, 256])
@pytest.mark.parametrize('dim', [1, 16, 17, 33, 70, 128, 300])
def test_dimensions_are_read_in_powers_of_two(dim, most):
    bank = torch.empty(2, dim)
    block, unit = dim_options(bank, most).values()
    assert block & (block - 1) == 0 and unit & (unit - 1) == 0
    assert dim % unit == 0 and unit <= 16
    # Without units there are fewer registers; products need 16 dimensions.
    limit = most if unit > 1 else max(most // 4, 16)
    assert block == min(limit, max(2 ** math.ceil(math.log2(dim)), 16))


def test_units_divide_the_stride():
    bank = torch.empty(3, 47)[:, :32]
    assert dim_options(bank, 64) == dict(BLOCK_D=16, UNIT=1)
    assert dim_options(torch.empty(3, 40)[:, :32], 64) == dict(BLOCK_D=32, UNIT=8)
