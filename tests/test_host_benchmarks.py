"""The benchmark configs of the installed host, unchanged, with the backbone of a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import Runner

from mmselfsup_invp.evaluation import read_backbone

from . import layouts
from .toy import build_model, model_config

FOLDER = 'mmselfsup::benchmarks/classification'
CONFIGS = {
    'linear': 'imagenet/resnet50_linear-8xb32-steplr-100e_in1k.py',
    'multi-head linear': 'imagenet/resnet50_mhead_linear-8xb32-steplr-90e_in1k.py',
    '1 %': 'imagenet/imagenet_1percent/resnet50_head1_4xb64-steplr1e-2-20e_in1k-1pct.py',
    '10 %': 'imagenet/imagenet_10percent/resnet50_head1_4xb64-steplr1e-2-20e_in1k-10pct.py',
}
# Images of each class and split, of two classes; pixels of a crop. The pools of the multi-head
# config have fixed kernels, for 224.
IMAGES, CROP, FULL_CROP = 6, 64, 224


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a ResNet-50, as the host's configs have it."""
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
    model = model_config(backbone=dict(type='ResNet', depth=50), neck=dict(in_channels=2048))
    state = build_model(model).state_dict()
    meta = dict(cfg=Config(dict(model=model)).pretty_text, epoch=1)
    torch.save(dict(state_dict=state, meta=meta), path)
    return path


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = layouts.imagenet(tmp_path_factory.mktemp('imagenet'), per_class=IMAGES)
    for split, prefix in (('train', 'train'), ('val', 'val')):
        paths = sorted((root / prefix).glob('*/*.JPEG'))
        lines = [f'{path.relative_to(root / prefix)} {number % 2}' for number, path in
                 enumerate(paths)]  # fmt: skip
        (root / 'meta').mkdir(exist_ok=True)
        (root / 'meta' / f'{split}.txt').write_text('\n'.join(lines))
    for percent in (1, 10):
        link = root / 'meta' / f'train_{percent}percent.txt'
        link.write_text((root / 'meta/train.txt').read_text())
    return root


def shrink(config: Any, data_root: Path, crop: int) -> None:
    """Other data, smaller images and batches, no workers; nothing else."""
    if isinstance(config, list):
        for item in config:
            shrink(item, data_root, crop)
    if not isinstance(config, dict):
        return
    if 'batch_size' in config:
        config.update(batch_size=6, num_workers=0, persistent_workers=False)
    if 'data_root' in config:
        config['data_root'] = str(data_root)
    for key in ('scale', 'crop_size'):
        if isinstance(config.get(key), int):
            config[key] = crop
    for value in config.values():
        shrink(value, data_root, crop)


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_it_trains_on_our_backbone(name, checkpoint, data_root, tmp_path):
    config = get_config(f'{FOLDER}/{CONFIGS[name]}')
    config.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.'
    )
    crop = FULL_CROP if name == 'multi-head linear' else CROP
    shrink(config._cfg_dict, data_root, crop)
    config.train_cfg.max_epochs = 1
    config.default_hooks.checkpoint = None
    config.work_dir = str(tmp_path / 'work')
    config.experiment_name = config.visualizer.name = f'host {name}'
    runner = Runner.from_cfg(config)
    runner.model.init_weights()
    read_backbone(checkpoint).check_loaded(runner.model.backbone.state_dict())
    before = runner.model.head.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    runner.train()
    assert runner.iter == 2
    after = runner.model.head.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    scores = [value for key, value in runner.message_hub.log_scalars.items() if 'top1' in key]
    assert scores
