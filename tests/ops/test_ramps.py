import math

import pytest

from mmselfsup_invp.ops import ramp_weight


@pytest.mark.parametrize(
    ('epoch', 'weight'),
    [(0, 0.006738), (1, 0.009351), (15, 0.286505), (29, 0.994460), (30, 1), (31, 1)],
)
def test_golden_gaussian(epoch, weight):
    assert math.isclose(ramp_weight('gaussian', epoch), weight, abs_tol=5e-7)


@pytest.mark.parametrize(('epoch', 'weight'), [(1, 0), (30, 0), (31, 1), (800, 1)])
def test_golden_binary(epoch, weight):
    assert ramp_weight('binary', epoch) == weight


def test_length_moves_the_step():
    assert [ramp_weight('binary', epoch, length=2) for epoch in (1, 2, 3)] == [0, 0, 1]
    assert ramp_weight('gaussian', 5, length=10) == pytest.approx(math.exp(-1.25))


@pytest.mark.parametrize('kind', ['binary', 'gaussian', 'constant'])
def test_no_ramp_without_length(kind):
    assert ramp_weight(kind, 1, length=0) == 1


def test_constant_is_one_from_the_start():
    assert ramp_weight('constant', 1) == 1


def test_unknown_kind_lists_the_kinds():
    with pytest.raises(ValueError, match="'zero' is not valid.* 'binary', 'gaussian', 'const"):
        ramp_weight('zero', 1)
