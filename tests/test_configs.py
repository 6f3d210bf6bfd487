"""Every config of InvP: its name says what it does, MIM finds it, and it trains."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from PIL import Image

import mmselfsup_invp  # noqa: F401  (registers; names mmselfsup_invp:: configs)

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'configs/invp'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
(DIGITS,) = (name for name in CONFIGS if name.endswith('_digits'))
DATA = {'in1k': 'imagenet', 'cifar10': 'cifar10', 'cifar100': 'cifar100', 'svhn': 'svhn'}

TRAIN_IMAGES, TEST_IMAGES, BATCH = 64, 4, 32
# No crop is larger in these tests.
CROP = 16

every_config = pytest.mark.parametrize('name', CONFIGS)


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def plain(config: Any) -> Any:
    """The content of a config, without the scope that MMEngine adds to inherited parts."""
    if isinstance(config, (Config, ConfigDict, dict)):
        return {key: plain(value) for key, value in config.items() if key != '_scope_'}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    return config


# ---- names ----


NAME = re.compile(
    r'(?P<algorithm>(momentum-)?invp[a-z-]*)'
    r'_resnet(?P<depth>\d+)(?P<module>[a-z-]*)'
    r'_(?P<gpus>\d+)xb(?P<batch>\d+)(-[a-z]+)*-coslr-(?P<epochs>\d+)e'
    r'_(?P<data>[a-z0-9]+)'
)


@every_config
def test_the_name_says_what_the_config_does(name):
    said = NAME.fullmatch(name)
    assert said, f'{name} is not {{algorithm}}_{{module}}_{{training}}_{{data}}'
    config = load(name)
    model, epochs = config.model, int(said['epochs'])
    assert model.type == ('MomentumInvP' if 'momentum' in said['algorithm'] else 'InvP')
    assert model.backbone.depth == int(said['depth'])
    if said['depth'] == '50':
        assert ('hid_channels' in model.neck) == ('mlp' in said['module'])
    assert config.train_dataloader.batch_size == int(said['batch'])
    assert config.train_cfg.max_epochs == epochs
    assert [(part.T_max, part.end) for part in config.param_scheduler] == [(epochs, epochs)]
    folder = f'data/{DATA.get(said["data"], said["data"])}/'
    assert set(data_roots(config)) == {folder}


def data_roots(config: Config) -> Iterator[str]:
    hook = config.default_hooks.get('knn', {})
    loaders = [config.train_dataloader, *(hook[key] for key in hook if key.endswith('dataloader'))]
    for loader in loaders:
        yield loader.dataset.data_root


@every_config
def test_the_learning_rate_scales_with_the_batch(name):
    if name.startswith('momentum') or name == DIGITS:
        pytest.skip('not a recipe of the paper')
    said = NAME.fullmatch(name)
    batch = int(said['gpus']) * int(said['batch'])
    assert load(name).optim_wrapper.optimizer.lr == pytest.approx(0.03 * batch / 128)


# ---- where they are found ----


@every_config
def test_it_can_be_inherited_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mine.py').write_text(f"_base_ = 'mmselfsup_invp::invp/{name}.py'\n")
    assert plain(Config.fromfile('mine.py')) == plain(load(name))


def metafile() -> dict:
    return yaml.safe_load((FOLDER / 'metafile.yml').read_text())


def test_the_metafile_lists_every_config_once():
    listed = [model['Config'] for model in metafile()['Models']]
    assert sorted(listed) == [f'configs/invp/{name}.py' for name in CONFIGS]


def test_the_metafile_describes_its_collection():
    (collection,) = metafile()['Collections']
    assert collection['Name'] == 'InvP'
    assert {'Training Data', 'Training Techniques', 'Architecture'} <= set(collection['Metadata'])
    assert collection['Paper']['URL'] == 'https://arxiv.org/abs/2010.11694'
    assert collection['Paper']['Title']
    assert (ROOT / collection['README']).is_file()
    assert (ROOT / collection['Code']['URL']).is_file()


@every_config
def test_the_metafile_describes_the_config(name):
    (model,) = (model for model in metafile()['Models'] if model['Name'] == name)
    said = NAME.fullmatch(name)
    assert model['In Collection'] == 'InvP'
    assert model['Metadata']['Epochs'] == int(said['epochs'])
    assert model['Metadata']['Batch Size'] == int(said['gpus']) * int(said['batch'])
    # What has no weights must not name any, or MMEngine would try to load them.
    assert model['Results'] is None and 'Weights' not in model


def test_the_method_page_names_every_config():
    page = (FOLDER / 'README.md').read_text()
    assert not [name for name in CONFIGS if f'({name}.py)' not in page]
    linked = re.findall(r'\(([\w-]+)\.py\)', page)
    assert not set(linked) - set(CONFIGS)


# ---- training ----


@pytest.fixture(scope='module')
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/imagenet, data/cifar10 and so on, all of them the same few images."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp('project')
    images = root / 'data/images'
    (images / 'meta').mkdir(parents=True)
    for split, count in (('train', TRAIN_IMAGES), ('val', TEST_IMAGES)):
        lines = []
        for number in range(count):
            label = number % 2
            path = images / split / f'class{label}' / f'{number:05d}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
            lines.append(f'{path.relative_to(images / split)} {label}\n')
        (images / 'meta' / f'{split}.txt').write_text(''.join(lines))
    (images / 'test').symlink_to('val')
    (images / 'meta/test.txt').symlink_to('val.txt')
    for name in ('imagenet', 'cifar10', 'cifar100', 'svhn', 'digits'):
        (root / 'data' / name).symlink_to('images')

    unlabelled = root / 'data/custom/meta/train.txt'
    unlabelled.parent.mkdir(parents=True)
    lines = (images / 'meta/train.txt').read_text().splitlines()
    unlabelled.write_text(''.join(f'{line.split()[0]}\n' for line in lines))
    (root / 'data/custom/train').symlink_to('../images/train')
    return root


def shrink(config: Any) -> None:
    """Bound batches and crops, and load without workers, wherever a config holds them."""
    if isinstance(config, list):
        for item in config:
            shrink(item)
    if not isinstance(config, dict):
        return
    if 'batch_size' in config:
        config.update(batch_size=BATCH, num_workers=0)
        config.pop('persistent_workers', None)
    if isinstance(config.get('size'), int):
        config['size'] = min(config['size'], CROP)
    for value in config.values():
        shrink(value)


def quick_runner(config: Config, name: str, work_dir: Path) -> Runner:
    """An epoch of two iterations, in which the propagation loss counts from the first on."""
    shrink(config._cfg_dict)
    config.train_cfg.max_epochs = 1
    config.default_hooks.memory.update(ramp='constant', initial_graph='knn')
    config.default_hooks.logger.interval = 1
    config.default_hooks.checkpoint = None
    config.work_dir = str(work_dir)
    # The host keeps logs and visualizers by name.
    config.experiment_name = config.visualizer.name = name
    return Runner.from_cfg(config)


def logged(work_dir: Path) -> dict[str, list[float]]:
    """All values of each figure, in order."""
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    figures: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        for key, value in json.loads(line).items():
            figures.setdefault(key, []).append(value)
    return figures


@every_config
def test_it_trains(name, project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    config = load(name)
    runner = quick_runner(config, name, tmp_path)
    memory = runner.model.memory
    memory.fit(TRAIN_IMAGES)
    bank = memory.bank.clone()
    runner.train()

    assert runner.iter == TRAIN_IMAGES // BATCH == 2
    figures = logged(tmp_path)
    losses = torch.tensor([figures['loss'], figures['loss_ins'], figures['loss_inv']])
    assert losses.shape == (3, 2) and losses.isfinite().all()
    assert (losses[1] > 0).all()
    if config.model.head.lambda_inv:
        assert (losses[2] != 0).all() and min(figures['num_positives']) >= 1
    else:
        assert (losses[2] == 0).all()

    assert (memory.bank != bank).any(dim=1).all()
    torch.testing.assert_close(memory.bank.norm(dim=1), torch.ones(TRAIN_IMAGES))
    assert (memory.neighbours != torch.arange(TRAIN_IMAGES)[:, None]).all()
    assert (memory.neighbours >= 0).any()

    assert ('knn' in config.default_hooks) == any(key.startswith('knn/') for key in figures)


def test_it_trains_where_it_is_inherited(project, tmp_path, monkeypatch):
    """The scope of an inherited config must lead to the components."""
    monkeypatch.chdir(project)
    mine = tmp_path / 'mine.py'
    mine.write_text(
        f"_base_ = 'mmselfsup_invp::invp/{DIGITS}.py'\nmodel = dict(head=dict(lambda_inv=0.3))\n"
    )
    runner = quick_runner(Config.fromfile(mine), 'inherited', tmp_path)
    runner.train()
    assert runner.model.head.lambda_inv == 0.3
    figures = logged(tmp_path)
    assert len(figures['loss_inv']) == 2 and any(key.startswith('knn/') for key in figures)


def test_the_command_line_reaches_a_hook_by_name():
    config = load('invp_resnet18_1xb128-coslr-800e_cifar10')
    config.merge_from_dict(
        {'default_hooks.memory.ramp_epochs': 10, 'default_hooks.knn.interval': 1}
    )
    hooks = config.default_hooks
    assert (hooks.memory.ramp_epochs, hooks.memory.ramp) == (10, 'binary')
    assert (hooks.knn.interval, hooks.knn.k) == (1, 200)


def test_data_are_looked_for_in_the_current_folder():
    roots = {root for name in CONFIGS for root in data_roots(load(name))}
    assert all(root.startswith('data/') and not os.path.isabs(root) for root in roots)
