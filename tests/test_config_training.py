"""Every config trains for two iterations on a few small images."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmselfsup_invp.models.memories import ClusterMemory, KeyQueue

from .configs import CONFIGS, every_config, load

DIGITS = [name for name in CONFIGS if name.endswith('_digits')]
TRAIN_IMAGES, TEST_IMAGES, BATCH = 64, 4, 32
# No crop is larger in these tests, but for AlexNet (63 pixels at least); no more clusters are made,
# and no more negatives drawn.
CROP, ALEXNET_CROP, CLUSTERS, NEGATIVES = 16, 64, 8, 16


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
    assert ((instance > 0) == (run.runner.model.head.lambda_ins > 0)).all()
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


def check_soft_invp(run: Trained) -> None:
    """The loss counts; every image has a key and neighbours, from which the walk leaves."""
    (loss,) = run.losses('loss_soft')
    assert (loss > 0).all()
    walks = run.config.model.head.get('propagation') != 0
    assert (max(run.figures['walked']) > 0) == walks
    memory = run.runner.model.memory
    assert len(memory) == TRAIN_IMAGES and (memory.neighbours >= 0).any()
    assert (memory.bank != run.before['memory.bank'][:TRAIN_IMAGES]).any(dim=1).all()


def check_multi_view_invp(run: Trained) -> None:
    """The loss between the views counts, and what counts for InvP."""
    check_invp(run)
    assert (run.losses('loss_view') > 0).all()


CHECKS: dict[str, Callable[[Trained], None]] = {
    'invp': check_invp,
    'interclr': check_interclr,
    'odc': check_odc,
    'sela': check_sela,
    'MultiViewInvP': check_multi_view_invp,
    'SoftInvP': check_soft_invp,
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
