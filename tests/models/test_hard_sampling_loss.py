import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.models import HardSamplingLoss

from .. import toy


def test_the_paper_is_the_default():
    assert HardSamplingLoss().sampling == ops.HardSampling()


def test_options_are_passed_on():
    options = dict(
        temperature=0.2,
        num_background=7,
        num_hard=3,
        hard_pos='easy',
        background='official',
        exclusive=False,
        instance_background='topm',
        eps=1e-7,
    )
    assert HardSamplingLoss(**options).sampling == ops.HardSampling(**options)


def test_without_hard_negatives_the_whole_bank_is_the_background():
    assert HardSamplingLoss(hard_neg=False).sampling == ops.HardSampling(num_background=None)


def test_is_the_step_of_the_operations():
    bank, query, anchor = toy.rows(30), toy.rows(4, seed=1), torch.tensor([3, 0, 17, 29])
    positive = ops.propagate(ops.knn_graph(bank, 2), anchor, hops=2)
    loss = HardSamplingLoss(temperature=0.3, num_background=6, background='topm')
    found = loss(query, bank, anchor, positive, num_neighbours=2, min_width=12)
    expected = ops.invp_step(query, bank, anchor, positive, loss.sampling, num_neighbours=2)
    assert found.instance == expected.instance and found.propagation == expected.propagation
    assert torch.equal(found.neighbours, expected.neighbours)
    without = loss(query, bank, anchor, None)
    assert without.propagation is None and without.neighbours.size(1) == 4


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(temperature=0.0), 'temperature = 0.0 is not valid'),
        (
            dict(background='top'),
            "background = 'top' is not valid. It must be one of 'exact', 'topm', 'official'",
        ),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        HardSamplingLoss(**option)
