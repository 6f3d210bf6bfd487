import pytest
import torch
import torch.nn.functional as F
from mmcls.structures import ClsDataSample

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.models import LayerwiseProbe

from ..toy import model_config

BACKBONE = model_config()['backbone']


def probe(**changes):
    torch.manual_seed(0)
    options = dict(backbone=BACKBONE, num_classes=3, pool_sizes=(2, 2, 1))
    return LayerwiseProbe(**{**options, **changes})


def samples(*labels, difficult=()):
    packed = [ClsDataSample().set_gt_label(label) for label in labels]
    for sample in packed:
        sample.set_metainfo(dict(gt_label_difficult=list(difficult)))
    return packed


IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_a_resnet_50_has_17_layers():
    backbone = dict(type='mmselfsup.ResNet', depth=50)
    model = probe(backbone=backbone, pool_sizes=(1,) * 5)
    assert model.layers[:2] == ['stem', 'layer1.0'] and model.layers[-1] == 'layer4.2'
    assert len(model.layers) == 17 and model(torch.randn(1, 3, 64, 64)).shape == (1, 17, 3)
    widths = [head[-1].in_features for head in model.heads]
    assert widths == [64] + [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3


def test_the_official_pools_give_the_official_widths():
    model = probe(backbone=dict(type='mmselfsup.ResNet', depth=50), pool_sizes=(12, 6, 4, 3, 1))
    widths = [head[-1].in_features for head in model.heads]
    assert widths == [9216] * 4 + [8192] * 4 + [9216] * 6 + [2048] * 3


def test_the_convolutions_of_alexnet_are_probed():
    model = probe(backbone=dict(type='AlexNetBN'), pool_sizes=(10, 6, 5, 5, 6), norm='plain')
    assert model.layers == ['conv1', 'conv2', 'conv3', 'conv4', 'conv5']
    widths = [head[-1].in_features for head in model.heads]
    assert widths == [9600, 9216, 9600, 9600, 9216]
    assert all(head[2].weight is None for head in model.heads)
    image = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    model.backbone.out_indices = tuple(range(5))
    maps = model.backbone(image)
    expected = [head(feature) for head, feature in zip(model.heads, maps, strict=True)]
    torch.testing.assert_close(model(image), torch.stack(expected, dim=1))


@pytest.mark.parametrize('pool', ['mean', 'max'])
def test_logits_are_those_of_each_block_alone(pool):
    model = probe(pool=pool)
    for head in model.heads:
        torch.nn.init.normal_(head[2].weight), torch.nn.init.normal_(head[2].bias)
    net = model.backbone
    x = net.relu(net.norm1(net.conv1(IMAGES)))
    features = [x]
    for name in net.res_layers:
        for block in getattr(net, name):
            features.append(x := block(x))
    pooling = dict(mean=F.adaptive_avg_pool2d, max=F.adaptive_max_pool2d)[pool]
    model.train()
    for layer, (feature, head) in enumerate(zip(features, model.heads, strict=True)):
        pooled = pooling(feature, 2 if layer < 3 else 1).flatten(1)
        scaled = pooled / (1 + head[2].eps) ** 0.5 * head[2].weight + head[2].bias
        torch.testing.assert_close(model(IMAGES)[:, layer], head[3](scaled))


def test_features_as_they_are():
    model = probe(norm='none').train()
    feature = F.adaptive_avg_pool2d(model.backbone(IMAGES)[-1], 1).flatten(1)
    torch.testing.assert_close(model(IMAGES)[:, -1], model.heads[-1][-1](feature))


@pytest.mark.parametrize(('norm', 'moves'), [('affine', False), ('train', True)])
def test_statistics_move_only_where_they_should(norm, moves):
    model = probe(norm=norm).train()
    before = [head[2].running_mean.clone() for head in model.heads]
    frozen = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model(IMAGES)
    after = [head[2].running_mean for head in model.heads]
    assert all(torch.equal(*pair) is not moves for pair in zip(before, after, strict=True))
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, frozen[name]), name


def test_only_the_heads_learn():
    model = probe().train()
    model(IMAGES, samples(0, 1, 2, 0), mode='loss')['loss'].backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.heads.parameters())
    assert not model.backbone.training


def test_the_loss_is_the_sum_over_layers():
    model = probe()
    loss = model(IMAGES, samples(0, 1, 2, 0), mode='loss')['loss']
    logits = model(IMAGES)
    each = [F.cross_entropy(logits[:, layer], torch.tensor([0, 1, 2, 0])) for layer in range(5)]
    torch.testing.assert_close(loss, sum(each))


def test_many_labels_leave_the_difficult_out():
    model = probe(labels='multi')
    loss = model(IMAGES[:1], samples([1], difficult=[1, 2]), mode='loss')['loss']
    logits = model(IMAGES[:1])[0]
    each = F.softplus(logits[:, 0]) + F.softplus(-logits[:, 1])
    torch.testing.assert_close(loss, each.sum())


def test_predictions_hold_the_scores_of_all_layers():
    model = probe()
    predicted = model(IMAGES, samples(0, 1, 2, 0), mode='predict')
    scores = torch.stack([sample.layer_scores for sample in predicted])
    torch.testing.assert_close(scores, model(IMAGES))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(pool='sum'), "pool = 'sum' is not valid"),
        (dict(norm='batch'), "norm = 'batch' is not valid"),
        (dict(labels='two'), "labels = 'two' is not valid"),
        (
            dict(pool_sizes=(1, 1)),
            r'pool_sizes = \(1, 1\) must have 3 entries, one for each of stem, layer1, layer2',
        ),
        (dict(backbone=dict(type='mmcls.LeNet5')), 'The blocks of LeNet5 cannot be probed'),
    ],
)
def test_options_that_are_not_valid_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        probe(**change)


def test_it_is_registered():
    assert MODELS.get('LayerwiseProbe') is LayerwiseProbe
