import math

import pytest
import torch

from mmselfsup_invp.models import ProjectionNeck


def features(channels=6):
    return torch.randn(3, 2, 5, 5), torch.randn(3, channels, 4, 5)


def test_linear_neck_is_pooling_and_a_layer():
    neck = ProjectionNeck(in_channels=6, out_channels=4)
    maps = features()
    (found,) = neck(maps)
    expected = maps[-1].mean(dim=(2, 3)) @ neck.output.weight.T + neck.output.bias
    torch.testing.assert_close(found, expected)


def test_mlp_neck_has_one_hidden_layer_with_relu():
    neck = ProjectionNeck(in_channels=6, out_channels=4, hid_channels=9)
    maps = features()
    weights = [neck.hidden[0].weight, neck.hidden[0].bias, neck.output.weight, neck.output.bias]
    assert [tuple(weight.shape) for weight in weights] == [(9, 6), (9,), (4, 9), (4,)]
    assert len(list(neck.parameters())) == 4
    hidden = (maps[-1].mean(dim=(2, 3)) @ weights[0].T + weights[1]).clamp(min=0)
    torch.testing.assert_close(neck(maps)[0], hidden @ weights[2].T + weights[3])


def test_weights_are_xavier_uniform_and_biases_zero():
    neck = ProjectionNeck(in_channels=100, out_channels=60, hid_channels=200)
    neck.init_weights()
    for layer in (neck.hidden[0], neck.output):
        bound = math.sqrt(6 / sum(layer.weight.shape))
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        torch.testing.assert_close(
            layer.weight.std().item(), bound / math.sqrt(3), rtol=0.02, atol=0
        )
        assert not layer.bias.any()


def test_dropout_is_before_pooling():
    neck = ProjectionNeck(in_channels=6, dropout=0.5)
    maps = torch.ones(2, 6, 32, 32)
    seen = {}
    neck.pool.register_forward_hook(lambda _, args, out: seen.update(map=args[0]))
    neck((maps,))
    assert 0.4 < (seen['map'] == 0).float().mean() < 0.6
    neck.eval()
    neck((maps,))
    assert torch.equal(seen['map'], maps)


@pytest.mark.parametrize('hid_channels', [None, 9])
def test_output_is_float32_under_autocast(hid_channels):
    neck = ProjectionNeck(in_channels=6, hid_channels=hid_channels)
    maps = features()
    exact = neck(maps)[0]
    with torch.autocast('cpu', torch.bfloat16):
        half = (maps[0], maps[1].bfloat16())
        found = neck(half)[0]
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16  # It was on.
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)
    # Of the output layer itself: not rounded to the 8 bits of bfloat16.
    assert not torch.equal(found, found.bfloat16().float())


def test_shapes_can_be_computed_without_data():
    """As tools that count operations do."""
    neck = ProjectionNeck(8, 4).to('meta')
    assert neck([torch.empty(2, 8, 3, 3, device='meta')])[0].shape == (2, 4)
