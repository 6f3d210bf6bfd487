"""Every evaluation of configs/benchmarks on tiny folders in the layouts of the real data sets."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.datasets.preparation import data_sets, prepare
from mmselfsup_invp.evaluation import read_backbone
from mmselfsup_invp.evaluation.protocols import Benchmark, Job, evaluate, find_configs
from mmselfsup_invp.evaluation.protocols.data import OTHERS, check_data

from . import layouts
from .toy import build_model, model_config

FOLDER = Path(__file__).resolve().parents[1] / 'configs/benchmarks/classification'
BENCHMARKS = {benchmark.name: path for path, benchmark, _ in find_configs(FOLDER)}
every_benchmark = pytest.mark.parametrize('name', BENCHMARKS)

# Pixels of an image, classes of each data set, and images of each class and split.
CROP, CLASSES, IMAGES = 64, 5, 2
VOC_CLASSES = 20

# A slim ResNet-18 with the stem and the stages that the configs of ImageNet expect.
RESNET = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)


@pytest.fixture(scope='module')
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/imagenet, data/pets and so on, prepared as the real ones are."""
    root = tmp_path_factory.mktemp('project')
    few = dict(classes=CLASSES, per_class=IMAGES)
    for name in ('imagenet', 'places205', 'cars', 'pets', 'flowers'):
        getattr(layouts, name)(root / 'data' / name, **few)
    layouts.caltech101(root / 'data/caltech101', CLASSES, 32)
    layouts.voc(root / 'data/VOCdevkit')
    for name in ('cifar10', 'cifar100', 'digits'):
        layouts.cifar(root / 'data' / name, **few)
    shutil.copytree(root / 'data/imagenet/train', root / 'data/custom/train')
    sets = data_sets()
    for name in ('imagenet', 'imagenet-1percent', 'imagenet-10percent', 'places205', 'voc2007',
                 'cars', 'pets', 'flowers', 'caltech101'):  # fmt: skip
        item = dataclasses.replace(sets[name], counts={})
        with layouts.unchecked_flowers():
            prepare(item, root / item.root, quick=True)
    return root


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By the type of the backbone."""
    return {
        backbone['type']: save_checkpoint(tmp_path_factory.mktemp('checkpoint'), backbone, width)
        for backbone, width in ((RESNET, 32), (dict(type='AlexNetBN'), 256))
    }


def save_checkpoint(folder: Path, backbone: dict, width: int) -> Path:
    model = model_config(backbone=backbone, neck=dict(in_channels=width))
    crop = dict(type='mmcls.RandomResizedCrop', scale=CROP)
    loader = dict(dataset=dict(pipeline=[crop]))
    config = Config(dict(model=model, train_dataloader=loader))
    meta = dict(cfg=config.pretty_text, epoch=1, experiment_name='toy_1_2')
    torch.save(dict(state_dict=build_model(model).state_dict(), meta=meta), folder / 'epoch_1.pth')
    return folder / 'epoch_1.pth'


def shrink(config: Any, classes: int) -> None:
    """Bound what takes time, and give classifiers as many outputs as there are classes."""
    if isinstance(config, list):
        for item in config:
            shrink(item, classes)
    if not isinstance(config, dict):
        return
    if 'batch_size' in config:
        config.update(batch_size=8, num_workers=0)
        config.pop('persistent_workers', None)
    if 'num_classes' in config:
        config['num_classes'] = classes
    for key in ('scale', 'crop_size'):
        if isinstance(config.get(key), int):
            config[key] = min(config[key], CROP + 8 if config['type'].endswith('Edge') else CROP)
        elif isinstance(config.get(key), (list, tuple)):
            config[key] = (CROP, CROP)
    if 'pool_sizes' in config:
        config['pool_sizes'] = [min(size, 3) for size in config['pool_sizes']]
    for value in config.values():
        shrink(value, classes)


def job_of(name: str, checkpoint: Path, out: Path) -> Job:
    """The benchmark as its config has it, but for sizes and one epoch."""
    config = Config.fromfile(BENCHMARKS[name])
    shrink(config._cfg_dict, VOC_CLASSES if 'voc' in name else CLASSES)
    if 'train_cfg' in config:
        config.train_cfg.update(max_epochs=1, val_interval=1)
    few = dict(svm=dict(costs=[1.0], jobs=1), knn=dict(k=3), similarity=dict(num_neighbours=1))
    few['few_shot'] = dict(few['svm'], shots=[1], samples=2)
    if 'svm' in config.benchmark.get('options', {}).get('classifier', ''):
        few['own_labels'] = {'settings.jobs': 1}
    options = few.get(config.benchmark.kind, {})
    config.merge_from_dict({f'benchmark.options.{key}': value for key, value in options.items()})
    if config.benchmark.kind == 'knn':
        config.benchmark.metric = f'k3_t{config.benchmark.options.temperature}'
    metric = 'top1' if config.benchmark.kind == 'own_labels' else 'mAP'
    benchmark = Benchmark(**{'metric': metric, **config.benchmark.to_dict()})
    return Job(benchmark, config, read_backbone(checkpoint), out)


@pytest.mark.slow
@every_benchmark
def test_it_runs_on_the_layout_of_its_data_set(name, project, checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    checkpoint = checkpoints['AlexNetBN' if name.endswith('alexnet') else 'ResNet']
    job = job_of(name, checkpoint, tmp_path)
    check_data(job.config, job.benchmark.data)
    outcome = evaluate(job)
    assert 0 <= outcome.last <= outcome.best <= 100
    assert job.benchmark.metric in outcome.metrics
    assert outcome.epochs == (job.benchmark.kind == 'training')


@every_benchmark
def test_the_data_set_is_one_that_can_be_prepared(name):
    config = Config.fromfile(BENCHMARKS[name])
    data = config.benchmark.data
    assert data in OTHERS or data in data_sets()
    if data in data_sets():
        root = data_sets()[data].root
        loader = config.train_dataloader.dataset.data_root
        assert loader.startswith(f'{root}/')


@every_benchmark
def test_names_are_those_of_the_files(name):
    path = BENCHMARKS[name]
    assert path.parent.name.startswith(name.partition('-')[0])


PUBLISHED = {
    'imagenet-linear': {67.7, 71.3, 65.5, 69.6, 61.5, 13.7},
    'places205-linear': {52.6, 53.5, 52.2, 53.4, 16.6},
    'voc07-svm': {84.2, 84.7, 82.6, 85.7, 9.6},
    'voc07-lowshot': {65.5, 70.0, 9.0},
    'imagenet-1percent': {76.7, 78.2, 66.3, 78.6},
    'imagenet-10percent': {87.2, 88.7, 84.5, 88.8},
    'transfer-cifar10': {97.9},
    'transfer-cifar100': {84.7},
    'transfer-voc07': {85.4},
    'transfer-caltech101': {92.5},
    'transfer-cars': {90.3},
    'transfer-pets': {89.4},
    'transfer-flowers': {96.7},
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_published_rows_are_those_of_the_papers(name):
    assert set(Config.fromfile(BENCHMARKS[name]).benchmark.published.values()) == PUBLISHED[name]


@pytest.mark.parametrize(
    ('name', 'key', 'value'),
    [
        ('imagenet-linear', 'optim_wrapper.optimizer.lr', 1.0),
        ('imagenet-linear', 'model.pool_sizes', (12, 6, 4, 3, 1)),
        ('imagenet-linear-gap', 'model.pool_sizes', (1, 1, 1, 1, 1)),
        ('imagenet-linear-gap', 'model.norm', 'train'),
        ('places205-linear', 'model.num_classes', 205),
        ('places205-linear-gap', 'train_cfg.max_epochs', 28),
        ('voc07-linear', 'model.pool_sizes', (12, 6, 4, 3, 2)),
        ('imagenet-1percent', 'train_cfg.max_epochs', 30),
        ('transfer-voc07', 'val_evaluator.rule', '11points'),
        ('transfer-cars', 'model.head.num_classes', 196),
        ('transfer-pets', 'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult', 5.0),
    ],
)
def test_constants_are_those_of_the_papers(name, key, value):
    config = Config.fromfile(BENCHMARKS[name])
    for part in key.split('.'):
        config = config[part]
    assert (tuple(config) if isinstance(value, tuple) else config) == value
