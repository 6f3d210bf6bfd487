import copy

import pytest
import torch
import torch.nn.functional as F
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


@pytest.mark.parametrize('world_size', [1, 2])
@pytest.mark.parametrize('splits', [1, 3])
def test_a_key_is_that_of_its_image_in_any_order(monkeypatch, world_size, splits):
    """Of two processes the second has the first one's images in reverse."""
    encoder = nn.Sequential(network().eval(), nn.Flatten())
    images = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    every = torch.cat([images, images.flip(0)])[: 6 * world_size]
    seen = []

    class Recorded(nn.Sequential):
        def forward(self, image):
            seen.append(image)
            return super().forward(image)[None]

    average = MomentumEncoder(Recorded(*encoder), 0.9, splits)
    shuffled = encoder(every)  # What both processes embed together, in their order.

    def gather(part):
        if part.dim() == 4:
            return every
        return F.normalize(shuffled, dim=1)[drawn[0]]

    drawn = []
    module = 'mmselfsup_invp.models.algorithms.momentum_encoder'
    if world_size == 2:
        monkeypatch.setattr(f'{module}.world_size', lambda: 2)
        monkeypatch.setattr(f'{module}.rank', lambda: 1)
        monkeypatch.setattr(f'{module}.gather', gather)
        monkeypatch.setattr(f'{module}.dist.broadcast', drawn.append)
    torch.manual_seed(3)
    key = average.embed([images, every[-6:]], Recorded(*encoder))
    torch.testing.assert_close(key, F.normalize(encoder(every[-6:]), dim=1))
    assert len(seen) == splits
    if world_size == splits == 1:
        assert torch.equal(seen[0], every)
    else:
        assert not torch.equal(torch.cat(seen), every[-6:])
