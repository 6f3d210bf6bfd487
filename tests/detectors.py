"""A data set in VOC layout, a checkpoint and configs of detectors small enough for a test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmselfsup_invp.config import dicts_in

from . import toy

BCCD = (
    Path(__file__).resolve().parent.parent
    / 'configs/benchmarks/mmdetection/bccd/faster-rcnn_r50-c4_150i_bccd.py'
)
# 60 anchors: the shared head of a C4 detector runs on every proposal.
SCALE = (32, 32)


def voc_folder(
    root: Path, classes: Sequence[str] = ('dog',), images: int = 4, seed: int = 0
) -> Path:
    """Write JPEG images, 64 x 64, with a bright square of 40 pixels each, in VOC layout."""
    random = np.random.default_rng(seed)
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    names = [f'{number:06d}' for number in range(images)]
    for number, name in enumerate(names):
        left, top = random.integers(1, 25, 2)
        pixels = random.integers(0, 80, (64, 64, 3), dtype=np.uint8)
        pixels[top - 1 : top + 39, left - 1 : left + 39] += 150
        Image.fromarray(pixels).save(root / 'JPEGImages' / f'{name}.jpg')
        (root / 'Annotations' / f'{name}.xml').write_text(
            '<annotation><size><width>64</width><height>64</height><depth>3</depth></size>'
            f'<object><name>{classes[number % len(classes)]}</name><difficult>0</difficult>'
            f'<bndbox><xmin>{left}</xmin><ymin>{top}</ymin>'
            f'<xmax>{left + 39}</xmax><ymax>{top + 39}</ymax></bndbox></object></annotation>'
        )
    for split in ('trainval', 'test'):
        (root / 'ImageSets/Main' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return root


def devkit(root: Path) -> Path:
    """VOC2007 and VOC2012, side by side."""
    for seed, year in enumerate(('VOC2007', 'VOC2012')):
        voc_folder(root / year, seed=seed)
    return root


def resnet_checkpoint(root: Path, depth: int = 50) -> Path:
    """Train InvP with a full ResNet for an iteration, and give its checkpoint."""
    runner = toy.build_runner(
        toy.image_folder(root / 'images', images=8),
        root / 'work',
        epochs=1,
        model=dict(
            backbone=dict(type='ResNet', depth=depth, norm_cfg=dict(type='BN')),
            neck=dict(in_channels=2048 if depth >= 50 else 512),
            head=dict(loss=dict(num_background=4, num_hard=2)),
        ),
    )
    runner.train()
    runner.save_checkpoint(str(root), 'pretrained.pth', save_optimizer=False)
    return root / 'pretrained.pth'


def shrink(config: Config) -> Config:
    """Tiny images and no workers: nothing of the recipe."""
    for part in dicts_in(config._cfg_dict):
        if part.get('type') == 'Resize':
            part['scale'] = SCALE
        if part.get('type') == 'RandomChoiceResize':
            part['scales'] = [SCALE]
        if 'ann_file' in part:
            part['serialize_data'] = False  # Which would collect garbage, for a second.
        if 'num_workers' in part:
            part.update(num_workers=0, persistent_workers=False)
    return config
