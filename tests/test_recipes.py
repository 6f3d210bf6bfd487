"""The constants and the views of the shipped configs are those of their sources."""

import inspect
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmselfsup_invp.compat.host import HOOKS, MODELS

from .configs import FOLDER, load
from .recipes import METHODS, RECIPES, SOFT_CONFIGS


def constant(config: Config, name: str) -> Any:
    """A value by its dotted name; a component's own default where the config omits it."""
    node: Any = config
    for part in name.split('.'):
        holder, node = node, node[int(part)] if isinstance(node, list) else node.get(part)
    if node is None and isinstance(holder, dict) and 'type' in holder:
        return default(holder['type'], part)
    return node


def default(component: str, argument: str) -> Any:
    """The default of an argument, in whichever class of the hierarchy declares it."""
    with DefaultScope.overwrite_default_scope('mmselfsup'):
        kind = MODELS.get(component) or HOOKS.get(component)
    for base in inspect.getmro(kind) if kind else ():
        parameter = inspect.signature(base.__init__).parameters.get(argument)
        if parameter is not None:
            return parameter.default
    return None


@pytest.mark.parametrize('name', RECIPES)
def test_constants_are_those_of_the_source(name):
    config = load(name)
    expected = RECIPES[name]
    assert {key: constant(config, key) for key in expected} == expected


def test_every_config_that_is_no_demonstration_has_a_recipe():
    shipped = {
        f'{path.parent.name}/{path.stem}'
        for folder, *_ in METHODS
        for path in (FOLDER / folder).glob('*.py')
        if not path.stem.endswith('_digits')
    }
    assert shipped == set(RECIPES)


# ---- augmentation ----

CROP = dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0))
FLIP = dict(type='RandomHorizontalFlip', p=0.5)
GRAY = dict(type='RandomGrayscale', p=0.2)
BLUR = dict(type='RandomApply', transforms=[dict(type='PILGaussianBlur', sigma=(0.1, 2.0))], p=0.5)


def jitter(hue: float) -> dict:
    return dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=hue)


MOCO_V2 = [
    CROP,
    dict(type='RandomApply', transforms=[jitter(0.1)], p=0.8),
    GRAY,
    BLUR,
    FLIP,
]
CIFAR_VIEWS = [CROP | dict(size=32), jitter(0.4), GRAY]
SIMCLR_VIEWS = [
    CROP | dict(size=32),
    FLIP,
    dict(type='RandomApply', transforms=[jitter(0.1)], p=0.8),
    GRAY,
]
VIEWS: dict[str, list[dict]] = {
    'invp/invp_resnet50_1xb128-coslr-800e_in1k': MOCO_V2,
    'invp/invp_resnet50-mlp_1xb128-coslr-800e_in1k': MOCO_V2,
    'invp/invp_resnet50_1xb128-noblur-coslr-800e_in1k': [CROP, GRAY, jitter(0.4), FLIP],
    'invp/invp_resnet18_1xb128-coslr-800e_cifar10': CIFAR_VIEWS,
    'invp/invp_resnet18_1xb128-coslr-800e_cifar100': CIFAR_VIEWS,
    'invp/invp_resnet18_1xb128-coslr-800e_svhn': CIFAR_VIEWS,
    'interclr/interclr-npid_resnet50-mlp_8xb32-coslr-200e_in1k': [
        CROP,
        dict(type='ColorJitter', saturation=(0.0, 2.0), hue=0.5),
        GRAY,
        BLUR,
        FLIP,
    ],
    'interclr/interclr-moco_resnet50-mlp_8xb32-coslr-200e_in1k': MOCO_V2,
    'sela/sela_resnet50_1xb256-steplr-400e_in1k': [
        CROP | dict(scale=(0.08, 1.0)),
        GRAY,
        jitter(0.4),
        FLIP,
    ],
    'sela/sela_alexnet_1xb128-steplr-400e_cifar10': [
        dict(type='Resize', size=256),
        CROP,
        jitter(0.4),
        GRAY,
        FLIP,
    ],
    'sela/sela_resnet18_1xb128-steplr-400e_cifar10': [*CIFAR_VIEWS, FLIP],
    'odc/odc_resnet50_8xb64-steplr-440e_in1k': [
        dict(type='RandomResizedCrop', size=224),
        FLIP,
        dict(type='RandomRotation', degrees=2),
        dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=1.0, hue=0.5),
        GRAY,
    ],
    'invp/multi-view-invp_resnet18_1xb32-coslr-50e_cifar10': SIMCLR_VIEWS,
    'invp/soft-invp_resnet18_1xb256-coslr-200e_cifar10': SIMCLR_VIEWS,
}
TWO_VIEWS = {
    'invp/momentum-invp_resnet50-mlp_8xb32-coslr-200e_in1k',
    'invp/momentum-invp_resnet18_1xb128-coslr-200e_cifar10',
    'interclr/interclr-moco_resnet50-mlp_8xb32-coslr-200e_in1k',
    'interclr/interclr-moco_resnet18_1xb128-coslr-200e_cifar10',
    *(f'invp/{name}' for name in SOFT_CONFIGS),
}


def augmentation(name: str) -> dict:
    pipeline = load(name).train_dataloader.dataset.pipeline
    return next((step for step in pipeline if step.type == 'AugmentedViews'), {})


@pytest.mark.parametrize('name', VIEWS)
def test_views_are_those_of_the_source(name):
    assert [dict(view) for view in augmentation(name)['transforms']] == VIEWS[name]


def test_views_of_whole_batches_are_those_of_single_images():
    name = 'invp/invp-batchaug_resnet18_1xb128-coslr-800e_cifar10'
    crop, colours, gray = load(name).model.data_preprocessor.transforms
    assert crop == CROP | dict(size=(32, 32), cropping_mode='resample')
    assert (colours, gray) == (jitter(0.4) | dict(p=1.0), GRAY)


@pytest.mark.parametrize('name', RECIPES)
def test_the_number_of_views(name):
    views = 4 if 'multi-view' in name else 2 if name in TWO_VIEWS else 1
    assert augmentation(name).get('num_views', 1) == views


@pytest.mark.parametrize('name', SOFT_CONFIGS)
def test_the_view_of_the_key_is_weak(name):
    views = augmentation(f'invp/{name}')
    size = views['transforms'][0]['size']
    assert [dict(view) for view in views['key_transforms']] == [CROP | dict(size=size), FLIP]
    assert len(views['transforms']) > 2


# ---- pixels, loaders, schedules and kNN ----

# Mean and standard deviation of the channels, for pixels from 0 to 1.
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CIFAR = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
# Shuffling the batches of all processes needs batches of equal size.
DROP_LAST = 'interclr/interclr-moco_resnet50-mlp_8xb32-coslr-200e_in1k'


@pytest.mark.parametrize('name', RECIPES)
def test_pixels_are_normalised_as_in_the_source(name):
    small = name.rpartition('_')[2] in ('cifar10', 'cifar100', 'svhn')
    found = load(name).model.data_preprocessor
    for channels, expected in zip(
        (found.mean, found.std), CIFAR if small else IMAGENET, strict=True
    ):
        assert channels == pytest.approx([255 * value for value in expected])
    assert found.bgr_to_rgb


@pytest.mark.parametrize('name', RECIPES)
def test_every_image_is_visited_in_every_epoch(name):
    loader = load(name).train_dataloader
    assert loader.sampler.shuffle and loader.drop_last == (name == DROP_LAST)


@pytest.mark.parametrize('name', RECIPES)
def test_schedules_follow_one_another_by_epoch(name):
    schedules = load(name).param_scheduler
    assert all(one.by_epoch for one in schedules)
    begins = [one.get('begin', 0) for one in schedules]
    assert begins == [0, *(one.end for one in schedules[:-1])]


@pytest.mark.parametrize('name', RECIPES)
def test_knn_is_that_of_the_source(name):
    """On the centre of whole images."""
    knn = load(name).default_hooks.get('knn')
    if knn is not None:
        assert (knn.k, knn.temperature) == ((10, 0.1) if name.startswith('sela/') else (200, 0.07))
        for loader in (loader for key, loader in knn.items() if key.endswith('dataloader')):
            views = [step.get('transforms', []) for step in loader.dataset.pipeline]
            sizes = [view.size for view in sum(views, [])]
            assert sizes == ([] if 'resnet18' in name else [256, 224])
            assert not loader.sampler.shuffle
