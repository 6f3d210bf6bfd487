import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmselfsup_invp.datasets import LimitAspectRatio
from mmselfsup_invp.evaluation.centre_view import (
    centre_view,
    evaluation_pipeline,
    training_size,
)
from mmselfsup_invp.registry import SCOPE

from ..configs import every_config, load

LOAD, PACK = dict(type='LoadImage'), dict(type='PackSelfSupInputs')
LIMIT = dict(type='LimitAspectRatio')


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
    assert centre_view(config(LOAD, step, PACK)) == [LIMIT, torchvision(*crop(size))]


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
    assert centre_view(config(LOAD, PACK), size=8) == [LIMIT, torchvision(*crop((8, 8)))]


def test_the_pipeline_without_augmentation_comes_first():
    train = torchvision(dict(type='RandomResizedCrop', size=224))
    resize = dict(type='Resize', size=256)
    own = config(LOAD, train, PACK, test_pipeline=[LOAD, torchvision(resize), PACK])
    assert centre_view(own) == [LIMIT, torchvision(resize, *crop((224, 224)))]
    host = dict(type='mmcls.ResizeEdge', scale=256)
    own = config(LOAD, train, PACK, test_pipeline=[LOAD, host, PACK])
    assert centre_view(own) == [LIMIT, host, torchvision(*crop((224, 224)))]
    assert centre_view(own, size=64) == [LIMIT, torchvision(*crop((64, 64)))]


@pytest.mark.parametrize(
    'step',
    [
        dict(type='Resize', size=(32, 32)),
        dict(type='Resize', size=32, max_size=64),
        dict(type='CenterCrop', size=32),
        dict(type='Pad', padding=3),
    ],
)
def test_a_pipeline_that_sees_more_than_the_centre_sees_the_whole_image(step):
    train = torchvision(dict(type='RandomResizedCrop', size=32))
    own = config(LOAD, train, PACK, test_pipeline=[LOAD, torchvision(step), PACK])
    assert centre_view(own) == [torchvision(step, *crop((32, 32)))]
    host = dict(type='mmcls.ResizeEdge', scale=64, edge='long')
    own = config(LOAD, train, PACK, test_pipeline=[LOAD, host, PACK])
    assert centre_view(own) == [host, torchvision(*crop((32, 32)))]


def view_of(image, steps):
    with DefaultScope.overwrite_default_scope(SCOPE):
        (view,) = Compose(steps)(dict(img=image, sample_idx=0))['img']
    return view


@pytest.mark.parametrize('shape', [(20, 320), (320, 20), (37, 53), (1, 16), (3, 3)])
def test_the_view_of_an_ordinary_image_is_that_of_the_whole_image(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    steps = centre_view(config(LOAD, PACK), size=8)
    np.testing.assert_array_equal(view_of(image, steps), view_of(image, steps[1:]))


@pytest.mark.parametrize('shape', [(1, 600), (1, 601), (501, 2), (4, 301)])
def test_the_view_of_a_long_image_has_the_same_centre(shape):
    # Smooth, so that a shift below a pixel of the view hardly changes it.
    values = 128 + 100 * np.sin(np.arange(max(shape)) / 3)
    image = np.broadcast_to(values.reshape((-1, 1) if shape[0] > shape[1] else (1, -1)), shape)
    image = np.repeat(image[..., None], 3, axis=2).astype(np.uint8)
    steps = centre_view(config(LOAD, PACK), size=16)
    whole, cropped = view_of(image, steps[1:]), view_of(image, steps)
    np.testing.assert_allclose(cropped.astype(int), whole.astype(int), atol=12)
    if min(shape) < 3:
        np.testing.assert_array_equal(cropped, whole)


def test_a_long_image_takes_little_memory(tmp_path, monkeypatch):
    Image.new('RGB', (60_000, 1)).save(tmp_path / 'long.png')
    assert (tmp_path / 'long.png').stat().st_size < 1000
    resize, sizes = Image.Image.resize, []

    def recorded(self, size, *arguments, **options):
        sizes.append(size)
        assert np.prod(size) < 2_000_000, size
        return resize(self, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, 'resize', recorded)
    test = [LOAD, torchvision(dict(type='Resize', size=256)), PACK]
    own = config(torchvision(dict(type='RandomCrop', size=224)), test_pipeline=test)
    with DefaultScope.overwrite_default_scope(SCOPE):
        results = Compose([LOAD, *centre_view(own)])(
            dict(img_path=str(tmp_path / 'long.png'), sample_idx=0)
        )
    assert results['img'][0].shape == (224, 224, 3) and sizes[0] == (4096, 256)


def test_the_shape_of_the_cropped_image_is_recorded():
    results = LimitAspectRatio(ratio=3)(dict(img=np.zeros((40, 2, 3), np.uint8)))
    assert results['img'].shape == (6, 2, 3) and results['img_shape'] == (6, 2)
    assert LimitAspectRatio(ratio=3)(dict(img=np.zeros((2, 7, 3)))).get('img_shape') == (2, 7)


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
