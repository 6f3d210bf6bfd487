import copy

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


def test_it_follows_as_mmengines_average_does():
    encoder = network()
    ours, theirs = MomentumEncoder(encoder, 0.9), ExponentialMovingAverage(encoder, 1 - 0.9)
    for step in range(4):
        change(encoder, step)
        for slow in (ours, theirs):
            slow.update_parameters(encoder)
        state = theirs.state_dict()
        assert state.keys() == ours.state_dict().keys() and state['steps'] == step + 1
        torch.testing.assert_close(ours.state_dict(), state)
        differs = (ours.module[0].weight != encoder[0].weight).any()
        assert differs == (step > 0)  # The first step copies.


def test_a_resumed_one_does_not_start_anew():
    encoder = network()
    straight = MomentumEncoder(encoder, 0.9)
    straight.update_parameters(encoder)
    resumed = MomentumEncoder(network(), 0.9)
    resumed.load_state_dict(straight.state_dict())
    change(encoder, 0)
    for slow in (straight, resumed):
        slow.update_parameters(copy.deepcopy(encoder))
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict())
