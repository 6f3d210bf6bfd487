import pytest
from mmengine.config import Config

from mmselfsup_invp.evaluation.centre_view import centre_view, evaluation_pipeline, training_size

from ..configs import every_config, load

LOAD, PACK = dict(type='LoadImage'), dict(type='PackSelfSupInputs')


def config(*train, **more):
    return Config(dict(train_dataloader=dict(dataset=dict(pipeline=list(train))), **more))


def torchvision(*transforms):
    return dict(type='AugmentedViews', transforms=list(transforms))


def crop(size):
    return [dict(type='Resize', size=max(size)), dict(type='CenterCrop', size=size)]


@pytest.mark.parametrize(
    ('step', 'size'),
    [
        (torchvision(dict(type='RandomResizedCrop', size=32, scale=(0.2, 1.0))), (32, 32)),
        (torchvision(dict(type='RandomCrop', size=[24, 48])), (24, 48)),
        (dict(type='mmcls.RandomResizedCrop', scale=224), (224, 224)),
        (dict(type='mmcls.RandomCrop', crop_size=28), (28, 28)),
        (dict(type='Resize', scale=(16, 16)), (16, 16)),
    ],
)
def test_the_size_is_that_of_the_training_views(step, size):
    assert training_size(config(LOAD, step, PACK)) == size
    assert centre_view(config(LOAD, step, PACK)) == [torchvision(*crop(size))]


def test_the_largest_of_several_crops_counts_and_no_resizing_beside_a_crop():
    small, large = (dict(type='RandomResizedCrop', size=size) for size in (96, 224))
    resize = dict(type='Resize', scale=(256, 256))
    assert training_size(config(resize, torchvision(small), torchvision(large))) == (224, 224)


def test_the_crop_of_an_augmenting_preprocessor_counts():
    crops = [dict(type='RandomResizedCrop', size=(20, 20), scale=(0.2, 1.0))]
    model = dict(data_preprocessor=dict(type='AugmentingDataPreprocessor', transforms=crops))
    assert training_size(config(LOAD, PACK, model=model)) == (20, 20)


def test_a_config_without_a_size_needs_one():
    with pytest.raises(ValueError, match=r'Give the size by --size \(size=N\)'):
        centre_view(config(LOAD, dict(type='RandomFlip', prob=0.5), PACK))
    assert centre_view(config(LOAD, PACK), size=8) == [torchvision(*crop((8, 8)))]


def test_the_pipeline_without_augmentation_comes_first():
    train = torchvision(dict(type='RandomResizedCrop', size=224))
    resize = dict(type='Resize', size=256)
    own = config(LOAD, train, PACK, test_pipeline=[LOAD, torchvision(resize), PACK])
    assert centre_view(own) == [torchvision(resize, *crop((224, 224)))]
    host = dict(type='mmcls.ResizeEdge', scale=256)
    own = config(LOAD, train, PACK, test_pipeline=[LOAD, host, PACK])
    assert centre_view(own) == [host, torchvision(*crop((224, 224)))]
    assert centre_view(own, size=64) == [torchvision(*crop((64, 64)))]


@pytest.mark.parametrize('place', ['default_hooks', 'custom_hooks'])
def test_the_pipeline_of_the_knn_hook_is_taken_before_others(place):
    pipeline = [LOAD, torchvision(dict(type='Resize', size=40)), PACK]
    hook = dict(
        type='mmselfsup.KNNEvalHook', query_dataloader=dict(dataset=dict(pipeline=pipeline))
    )
    hooks = dict(knn=hook, other=None) if place == 'default_hooks' else [hook]
    assert evaluation_pipeline(config(test_pipeline=[], **{place: hooks})) == pipeline


def test_transforms_must_be_registered():
    train = torchvision(dict(type='RandomResizedCrop', size=224))
    with pytest.raises(ValueError, match="type='os.system', which is not a registered"):
        centre_view(config(train, test_pipeline=[LOAD, dict(type='os.system'), PACK]))


@every_config
def test_every_config_has_a_view(name):
    cfg = load(name)
    height, width = centre_view(cfg)[-1]['transforms'][-1]['size']
    # AlexNet takes enlarged images.
    kind = 'in1k' if 'alexnet' in name else name.rpartition('_')[2]
    assert height == width == {'in1k': 224, 'custom': 224, 'digits': 16}.get(kind, 32)
