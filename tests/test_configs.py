"""Every config: its name says what it does, MIM finds it, and it trains."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from PIL import Image

import mmselfsup_invp  # noqa: F401  (registers; names mmselfsup_invp:: configs)
from mmselfsup_invp.models.memories import ClusterMemory, KeyQueue

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'configs'
METHODS = sorted(path.parent.name for path in FOLDER.glob('*/metafile.yml'))
CONFIGS = sorted(
    f'{method}/{path.stem}' for method in METHODS for path in (FOLDER / method).glob('*.py')
)
DIGITS = [name for name in CONFIGS if name.endswith('_digits')]
DATA = {'in1k': 'imagenet', 'cifar10': 'cifar10', 'cifar100': 'cifar100', 'svhn': 'svhn'}

# Which model the first word of a name stands for; the longest that fits counts.
ALGORITHMS = {
    'invp': 'InvP',
    'momentum-invp': 'MomentumInvP',
    'soft-invp': 'SoftInvP',
    'interclr-npid': 'InterCLR',
    'interclr-moco': 'MomentumInterCLR',
    'odc': 'ODC',
    'sela': 'SeLa',
}

TRAIN_IMAGES, TEST_IMAGES, BATCH = 64, 4, 32
# No crop is larger in these tests, but for AlexNet (63 pixels at least); no more clusters are made,
# and no more negatives drawn.
CROP, ALEXNET_CROP, CLUSTERS, NEGATIVES = 16, 64, 8, 16

every_config = pytest.mark.parametrize('name', CONFIGS)
every_method = pytest.mark.parametrize('method', METHODS)


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
    r'(?P<algorithm>[a-z]+(-[a-z]+)*)'
    r'_(?P<network>[a-z]+)(?P<depth>\d*)(?P<module>[a-z-]*)'
    r'_(?P<gpus>\d+)xb(?P<batch>\d+)(-[a-z]+)*-(?P<schedule>coslr|steplr)-(?P<epochs>\d+)e'
    r'_(?P<data>[a-z0-9]+)'
)


def said_by(name: str) -> re.Match:
    """The parts of a name."""
    said = NAME.fullmatch(name.partition('/')[2])
    assert said, f'{name} is not {{algorithm}}_{{module}}_{{training}}_{{data}}'
    return said


def algorithm_of(said: re.Match) -> str:
    fitting = [word for word in ALGORITHMS if f'{said["algorithm"]}-'.startswith(f'{word}-')]
    return ALGORITHMS[max(fitting, key=len)]


@every_config
def test_the_name_says_what_the_config_does(name):
    said, config = said_by(name), load(name)
    model, epochs = config.model, int(said['epochs'])
    assert model.type == algorithm_of(said)
    assert said['network'] in model.backbone.type.lower()
    if said['depth']:
        assert model.backbone.depth == int(said['depth'])
    if said['depth'] == '50' and model.neck.type == 'ProjectionNeck':
        assert ('hid_channels' in model.neck) == ('mlp' in said['module'])
    assert config.train_dataloader.batch_size == int(said['batch'])
    assert config.train_cfg.max_epochs == epochs
    last = config.param_scheduler[-1]
    if said['schedule'] == 'coslr':
        assert last.type == 'CosineAnnealingLR'
        assert last.end == epochs == last.T_max + last.begin
    else:
        assert last.type == 'MultiStepLR' and max(last.milestones) < epochs
    folder = f'data/{DATA.get(said["data"], said["data"])}/'
    assert set(data_roots(config)) == {folder}


def data_roots(config: Config) -> Iterator[str]:
    hooks = [hook for hook in config.default_hooks.values() if hook]
    loaders = [hook[key] for hook in hooks for key in hook if key.endswith('dataloader')]
    for loader in [config.train_dataloader, *loaders]:
        yield loader.dataset.data_root


# Learning rate and the batch that it is for.
RATES = {
    'invp': (0.03, 128),
    'interclr': (0.03, 256),
    'interclr LARS': (0.3, 256),
    'sela': (0.08, 256),
}


@every_config
def test_the_learning_rate_scales_with_the_batch(name):
    method, said = name.partition('/')[0], said_by(name)
    optimizer = load(name).optim_wrapper.optimizer
    rate = RATES.get(f'{method} {optimizer.type}', RATES.get(method))
    ours = 'momentum' in name or 'soft' in name or said['data'] == 'digits'
    if rate is None or ours or (method != 'invp' and said['data'] != 'in1k'):
        pytest.skip('not a recipe of the paper')
    batch = int(said['gpus']) * int(said['batch'])
    assert optimizer.lr == pytest.approx(rate[0] * batch / rate[1])


@every_config
def test_the_learning_rate_can_be_scaled_from_the_batch_of_the_name(name):
    said = said_by(name)
    expected = int(said['gpus']) * int(said['batch'])
    assert load(name).auto_scale_lr == dict(base_batch_size=expected)


# Learning rates of whole epochs, counted from 0: golden values of the papers' formulas.
SCHEDULES = {
    'invp/invp_resnet50_1xb128-coslr-800e_in1k': {
        0: 0.03,
        1: 2.999988e-2,
        400: 1.5e-2,
        799: 1.156593e-7,
    },
    'interclr/interclr-npid_resnet50-mlp_8xb32-coslr-200e_in1k': {
        0: 0.03,
        50: 0.025611,
        100: 0.015015,
        199: 3.184866e-5,
    },
    'sela/sela_resnet50_1xb256-steplr-400e_in1k': {
        0: 0.08,
        149: 0.08,
        150: 0.008,
        299: 0.008,
        300: 0.0008,
        349: 0.0008,
        350: 0.00008,
        399: 0.00008,
    },
}


@pytest.mark.parametrize('name', SCHEDULES)
def test_the_learning_rate_of_every_epoch(name):
    config = load(name)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    rates = []
    for _ in range(config.train_cfg.max_epochs):
        rates.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    for epoch, rate in SCHEDULES[name].items():
        assert rates[epoch] == pytest.approx(rate, rel=2e-5), epoch


# ---- where they are found ----


@every_config
def test_it_can_be_inherited_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mine.py').write_text(f"_base_ = 'mmselfsup_invp::{name}.py'\n")
    assert plain(Config.fromfile('mine.py')) == plain(load(name))


def metafile(method: str) -> dict:
    return yaml.safe_load((FOLDER / method / 'metafile.yml').read_text())


def test_every_method_has_a_metafile_and_stands_in_the_index():
    folders = {path.parent.name for path in FOLDER.glob('*/*.py')} - {'_base_'}
    assert sorted(folders) == METHODS
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert sorted(index['Import']) == [f'configs/{method}/metafile.yml' for method in METHODS]


@every_method
def test_the_metafile_lists_every_config_once(method):
    listed = [model['Config'] for model in metafile(method)['Models']]
    here = [name for name in CONFIGS if name.startswith(f'{method}/')]
    assert sorted(listed) == [f'configs/{name}.py' for name in here]


@every_method
def test_the_metafile_describes_its_collection(method):
    (collection,) = metafile(method)['Collections']
    assert collection['Name'].lower() == method
    assert {'Training Data', 'Training Techniques', 'Architecture'} <= set(collection['Metadata'])
    assert re.fullmatch(r'https://arxiv\.org/abs/\d{4}\.\d{5}', collection['Paper']['URL'])
    assert collection['Paper']['Title']
    assert (ROOT / collection['README']).is_file()
    assert (ROOT / collection['Code']['URL']).is_file()


@every_config
def test_the_metafile_describes_the_config(name):
    method, _, stem = name.partition('/')
    (model,) = (model for model in metafile(method)['Models'] if model['Name'] == stem)
    said = said_by(name)
    assert model['In Collection'].lower() == method
    assert model['Metadata']['Epochs'] == int(said['epochs'])
    assert model['Metadata']['Batch Size'] == int(said['gpus']) * int(said['batch'])
    # What has no weights must not name any, or MMEngine would try to load them.
    assert model['Results'] is None and 'Weights' not in model


@every_method
def test_the_method_page_names_every_config(method):
    page = (FOLDER / method / 'README.md').read_text()
    here = [name.partition('/')[2] for name in CONFIGS if name.startswith(f'{method}/')]
    assert not [name for name in here if f'({name}.py)' not in page]
    linked = re.findall(r'\(([\w-]+)\.py\)', page)
    assert not set(linked) - set(here)


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

    (root / 'data/custom').mkdir()
    (root / 'data/custom/train').symlink_to('../images/train')
    return root


def shrink(config: Any, crop: int) -> None:
    """Bound what takes time or images, and load without workers, wherever a config holds it."""
    if isinstance(config, list):
        for item in config:
            shrink(item, crop)
    if not isinstance(config, dict):
        return
    if 'batch_size' in config:
        config.update(batch_size=BATCH, num_workers=0)
        config.pop('persistent_workers', None)
    limits = dict(size=crop, num_clusters=CLUSTERS, num_classes=CLUSTERS, num_negatives=NEGATIVES)
    for key, limit in limits.items():
        if isinstance(config.get(key), int):
            config[key] = min(config[key], limit)
    for value in config.values():
        shrink(value, crop)


def quick_runner(config: Config, name: str, work_dir: Path) -> Runner:
    """An epoch of two iterations, in which the propagation loss counts from the first on."""
    if config.model.get('data_preprocessor', {}).get('type') == 'AugmentingDataPreprocessor':
        pytest.importorskip('kornia')
    alexnet = config.model.backbone.type == 'AlexNetBN'
    shrink(config._cfg_dict, ALEXNET_CROP if alexnet else CROP)
    config.train_cfg.max_epochs = 1
    if 'memory' in config.default_hooks:
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


@dataclass
class Trained:
    """A finished run of a config, and the state of the model before it."""

    config: Config
    runner: Runner
    figures: dict[str, list[float]]
    before: dict[str, torch.Tensor]

    def losses(self, *names: str) -> torch.Tensor:
        """Values of two iterations, ``(names, 2)``, all finite."""
        losses = torch.tensor([self.figures[name] for name in ('loss', *names)])
        assert losses.shape == (1 + len(names), 2) and losses.isfinite().all()
        return losses[1:]


def check_invp(run: Trained) -> None:
    """Both losses count; every row of the bank and of the graph was written."""
    instance, propagation = run.losses('loss_ins', 'loss_inv')
    assert (instance > 0).all()
    if run.config.model.head.lambda_inv:
        assert (propagation != 0).all() and min(run.figures['num_positives']) >= 1
    else:
        assert (propagation == 0).all()
    memory = run.runner.model.memory
    assert (memory.bank != run.before['memory.bank']).any(dim=1).all()
    torch.testing.assert_close(memory.bank.norm(dim=1), torch.ones(TRAIN_IMAGES))
    assert (memory.neighbours != torch.arange(TRAIN_IMAGES)[:, None]).all()
    assert (memory.neighbours >= 0).any()
    if run.runner.model.branch is not None:
        check_clusters(run, run.runner.model.branch.memory)
        assert (run.losses('loss_inter') > 0).all()


def check_soft_invp(run: Trained) -> None:
    """The loss counts; every image has a key and neighbours, from which the walk leaves."""
    (loss,) = run.losses('loss_soft')
    assert (loss > 0).all()
    walks = run.config.model.head.get('propagation') != 0
    assert (max(run.figures['walked']) > 0) == walks
    memory = run.runner.model.memory
    assert len(memory) == TRAIN_IMAGES and (memory.neighbours >= 0).any()
    assert (memory.bank != run.before['memory.bank'][:TRAIN_IMAGES]).any(dim=1).all()


def check_interclr(run: Trained) -> None:
    """Both losses count; every image has a row and a cluster."""
    assert (run.losses('loss_intra', 'loss_inter') > 0).all()
    check_clusters(run, run.runner.model.branch.memory)
    queue = getattr(run.runner.model, 'queue', None)
    if isinstance(queue, KeyQueue):
        assert len(queue) == TRAIN_IMAGES and queue.pointer == 0
        assert (queue.bank != run.before['queue.bank'][:TRAIN_IMAGES]).any(dim=1).all()


def check_odc(run: Trained) -> None:
    """The loss counts; every image has a row and a cluster."""
    run.losses()
    check_clusters(run, run.runner.model.memory_bank)


def check_clusters(run: Trained, memory: ClusterMemory) -> None:
    assert memory.clustered and len(memory) == TRAIN_IMAGES
    torch.testing.assert_close(memory.bank.norm(dim=1), torch.ones(TRAIN_IMAGES))
    assert run.figures['clusters/empty'][-1] < memory.num_clusters == CLUSTERS


def check_sela(run: Trained) -> None:
    """The loss counts; the images have labels of the network's own."""
    run.losses()
    labels, before = run.runner.model.memory.labels, run.before['memory.labels']
    assert labels.shape == (TRAIN_IMAGES, run.config.model.head.num_heads)
    solved = labels if run.config.default_hooks.self_label.heads == 'all' else labels[:, :1]
    assert (solved != before[:, : solved.size(1)]).any(dim=0).all()
    assert labels.min() >= 0 and labels.max() < CLUSTERS
    assert {'sela/cost', 'sela/nmi'} <= set(run.figures)


CHECKS: dict[str, Callable[[Trained], None]] = {
    'invp': check_invp,
    'SoftInvP': check_soft_invp,
    'interclr': check_interclr,
    'odc': check_odc,
    'sela': check_sela,
}


@pytest.mark.slow
@every_config
def test_it_trains(name, project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    config = load(name)
    runner = quick_runner(config, name, tmp_path)
    if hasattr(runner.model, 'memory'):
        runner.model.memory.fit(TRAIN_IMAGES)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()

    assert runner.iter == TRAIN_IMAGES // BATCH == 2
    figures = logged(tmp_path)
    check = CHECKS.get(config.model.type, CHECKS[name.partition('/')[0]])
    check(Trained(config, runner, figures, before))
    assert ('knn' in config.default_hooks) == any(key.startswith('knn/') for key in figures)


@pytest.mark.slow
@pytest.mark.parametrize('name', DIGITS)
def test_it_trains_where_it_is_inherited(name, project, tmp_path, monkeypatch):
    """The scope of an inherited config must lead to the components."""
    monkeypatch.chdir(project)
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = 'mmselfsup_invp::{name}.py'\ndefault_hooks = dict(knn=dict(k=3))\n")
    runner = quick_runner(Config.fromfile(mine), f'inherited-{name}', tmp_path)
    runner.train()
    figures = logged(tmp_path)
    assert len(figures['loss']) == 2 and any(re.match(r'knn/.*_k3_', key) for key in figures)


def test_the_command_line_reaches_a_hook_by_name():
    config = load('invp/invp_resnet18_1xb128-coslr-800e_cifar10')
    config.merge_from_dict(
        {'default_hooks.memory.ramp_epochs': 10, 'default_hooks.knn.interval': 1}
    )
    hooks = config.default_hooks
    assert (hooks.memory.ramp_epochs, hooks.memory.ramp) == (10, 'binary')
    assert (hooks.knn.interval, hooks.knn.k) == (1, 200)


def test_data_are_looked_for_in_the_current_folder():
    roots = {root for name in CONFIGS for root in data_roots(load(name))}
    assert all(root.startswith('data/') and not os.path.isabs(root) for root in roots)
