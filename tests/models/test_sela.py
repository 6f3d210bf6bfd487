import copy
import math

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.memory import NonFiniteFeatures
from mmselfsup_invp.models import AlexNetBN, FullyConnectedNeck, SelfLabelHead

from .. import toy


def images(count=4, size=16):
    return torch.randn(count, 3, size, size)


class TestAlexNet:
    def test_shapes_of_the_official_network(self):
        network = AlexNetBN(out_indices=(0, 1, 2, 3, 4, 5))
        maps = network(images(1, 224))
        sizes = [(96, 55), (256, 27), (384, 13), (384, 13), (256, 13), (256, 6)]
        assert [tuple(map.shape[1:]) for map in maps] == [(c, s, s) for c, s in sizes]
        assert torch.equal(F.max_pool2d(maps[4], 3, 2), maps[5])
        count = sum(parameter.numel() for parameter in network.parameters())
        convs = [(3, 96, 11), (96, 256, 5), (256, 384, 3), (384, 384, 3), (384, 256, 3)]
        assert count == sum(i * o * k * k + 3 * o for i, o, k in convs)

    def test_initial_weights(self):
        network = AlexNetBN()
        network.init_weights()
        for conv, norm, _ in network.layers:
            deviation = math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
            assert conv.weight.std().item() == pytest.approx(deviation, rel=0.05)
            assert not conv.bias.any()
            assert (norm.weight == 1).all() and not norm.bias.any()

    def test_wrong_output_is_named(self):
        with pytest.raises(
            ValueError,
            match=r'out_indices = \(6,\) is not valid.* an integer from 0 to 5',
        ):
            AlexNetBN(out_indices=(6,))


class TestNeck:
    def test_without_hidden_layers_it_pools(self):
        neck = FullyConnectedNeck(8)
        feature = torch.randn(3, 8, 4, 4)
        (found,) = neck([feature])
        torch.testing.assert_close(found, feature.mean(dim=(2, 3)))
        assert not list(neck.parameters())

    def test_hidden_layers(self):
        neck = FullyConnectedNeck(8, (12, 5), pool_size=2, dropout=0.5).eval()
        first, second = (part for part in neck.hidden if isinstance(part, torch.nn.Linear))
        assert first.in_features == 32
        feature = torch.randn(3, 8, 2, 2)
        expected = F.relu(second(F.relu(first(feature.flatten(1)))))
        torch.testing.assert_close(neck([feature])[0], expected)
        neck.train()
        assert not torch.equal(neck([feature])[0], neck([feature])[0])


class TestHead:
    def test_loss_is_the_mean_over_heads(self):
        head = SelfLabelHead(6, num_classes=4, num_heads=3)
        feature, label = torch.randn(5, 6), torch.randint(4, (5, 3))
        losses, right = [], 0
        for index in range(3):
            rows = slice(4 * index, 4 * index + 4)
            weight, bias = head.classifiers.weight[rows], head.classifiers.bias[rows]
            logits = feature @ weight.T + bias
            losses.append(F.cross_entropy(logits, label[:, index]))
            right += (logits.argmax(dim=1) == label[:, index]).sum().item()
            torch.testing.assert_close(head.log_prob(feature, index), logits.log_softmax(dim=1))
        found = head(feature, label)
        torch.testing.assert_close(found['loss'], torch.stack(losses).mean())
        assert found['label_accuracy'].item() == pytest.approx(100 * right / 15)

    def test_log_probabilities_are_float32_under_autocast(self):
        head = SelfLabelHead(6, num_classes=4, num_heads=2)
        feature = torch.randn(5, 6)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = head.log_prob(feature.bfloat16(), 1)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, head.log_prob(feature.bfloat16().float(), 1))

    @pytest.mark.parametrize('name', ['num_classes', 'num_heads'])
    def test_wrong_sizes_are_named(self, name):
        with pytest.raises(ValueError, match=f'{name} = 0 is not valid'):
            SelfLabelHead(6, **{name: 0})


class TestAlgorithm:
    def test_labels_of_the_samples_enter_the_loss(self):
        model = toy.build_model(toy.sela_config())
        model.memory.fit(10)
        model.train()
        image, ids = images(), (7, 2, 9, 0)
        twin = copy.deepcopy(model)
        found = model.loss([image], toy.samples(*ids))
        logits = twin.head.classifiers(twin.backbone(image)[0].mean(dim=(2, 3)))
        expected = sum(
            F.cross_entropy(part, twin.memory.labels[list(ids), head])
            for head, part in enumerate(logits.split(3, dim=1))
        )
        torch.testing.assert_close(found['loss'], expected / 2)

    def test_features_are_those_of_the_neck_not_normalised(self):
        model = toy.build_model(toy.sela_config()).eval()
        image = images()
        expected = model.neck(model.backbone(image))[0]
        assert torch.equal(model.embed(image), expected)
        assert (expected.norm(dim=1) - 1).abs().min() > 1e-3

    def test_features_that_are_not_finite_are_reported_with_their_ids(self):
        model = toy.build_model(toy.sela_config())
        model.memory.fit(10)
        model.eval()
        image = images()
        image[2] = torch.nan
        model.loss([image], toy.samples(7, 2, 9, 0))
        with pytest.raises(NonFiniteFeatures, match=r'samples \[9\]'):
            model.memory.monitor.check()

    def test_only_the_network_learns(self):
        model = toy.build_model(toy.sela_config())
        model.memory.fit(10)
        before = model.memory.labels.clone()
        model.loss([images()], toy.samples(0, 1, 2, 3))['loss'].backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        assert torch.equal(model.memory.labels, before)

    def test_one_head_is_plain_classification(self):
        one = dict(num_classes=3, num_heads=1)
        model = toy.build_model(toy.sela_config(head=one, memory=one))
        model.memory.fit(10)
        model.eval()
        image = images()
        found = model.loss([image], toy.samples(3, 4, 5, 6))['loss']
        logits = model.head.classifiers(model.embed(image))
        torch.testing.assert_close(found, F.cross_entropy(logits, model.memory.labels[3:7, 0]))

    def test_without_labels_the_hook_is_named(self):
        model = toy.build_model(toy.sela_config())
        with pytest.raises(RuntimeError, match='SelfLabelMemory has no rows yet.*SelfLabelHook'):
            model.loss([images()], toy.samples(0, 1, 2, 3))

    @pytest.mark.parametrize('name', ['num_classes', 'num_heads'])
    def test_head_and_memory_must_agree(self, name):
        config = toy.sela_config(memory={name: 5})
        with pytest.raises(ValueError, match=f'head.{name} = . and memory.{name} = 5 must be'):
            MODELS.build(config)
