import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmselfsup_invp.models.algorithms.momentum_encoder import MomentumEncoder


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def change(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.add_(torch.randn(tensor.shape, generator=generator))


@pytest.mark.parametrize('momentum', [0.9, 0.3])
def test_it_averages_as_mmengine_does(momentum):
    encoder = network()
    ours = MomentumEncoder(encoder, momentum)
    theirs = ExponentialMovingAverage(encoder, 1 - momentum)
    for step in range(4):
        change(encoder, step)
        for average in (ours, theirs):
            average.update_parameters(encoder)
        state = theirs.state_dict()
        assert state.keys() == ours.state_dict().keys() and state['steps'] == step + 1
        torch.testing.assert_close(ours.state_dict(), state)
        equal = torch.equal(ours.module[0].weight, encoder[0].weight)
        assert equal == (step == 0)  # The first update copies.


def test_a_resumed_average_is_not_replaced_by_a_copy():
    encoder = network()
    straight = MomentumEncoder(encoder, 0.9)
    straight.update_parameters(encoder)
    resumed = MomentumEncoder(network(), 0.9)
    resumed.load_state_dict(straight.state_dict())
    change(encoder, 0)
    for average in (straight, resumed):
        average.update_parameters(copy.deepcopy(encoder))
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict())


def test_it_is_not_trained():
    assert not any(weight.requires_grad for weight in MomentumEncoder(network(), 0.9).parameters())
