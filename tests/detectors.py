"""A data set in VOC layout, a checkpoint and configs of detectors small enough for a test."""

import json
from collections.abc import Iterator, Sequence
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


def squares(folder: Path, images: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Write JPEG images, 64 x 64, with a bright square of 40 pixels each.

    Yields:
        tuple: Name of the file without its ending; left and top of the square, counted from 1.
    """
    random = np.random.default_rng(seed)
    for number in range(images):
        left, top = random.integers(1, 25, 2)
        pixels = random.integers(0, 80, (64, 64, 3), dtype=np.uint8)
        pixels[top - 1 : top + 39, left - 1 : left + 39] += 150
        Image.fromarray(pixels).save(folder / f'{number:06d}.jpg')
        yield f'{number:06d}', int(left), int(top)


def voc_folder(
    root: Path, classes: Sequence[str] = ('dog',), images: int = 4, seed: int = 0
) -> Path:
    """Write :func:`squares` in VOC layout."""
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    names = []
    for number, (name, left, top) in enumerate(squares(root / 'JPEGImages', images, seed)):
        names.append(name)
        (root / 'Annotations' / f'{name}.xml').write_text(
            '<annotation><size><width>64</width><height>64</height><depth>3</depth></size>'
            f'<object><name>{classes[number % len(classes)]}</name><difficult>0</difficult>'
            f'<bndbox><xmin>{left}</xmin><ymin>{top}</ymin>'
            f'<xmax>{left + 39}</xmax><ymax>{top + 39}</ymax></bndbox></object></annotation>'
        )
    for split in ('trainval', 'test'):
        (root / 'ImageSets/Main' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return root


def coco_folder(root: Path, classes: Sequence[str], images: int = 4) -> Path:
    """Write :func:`squares` in COCO layout, each of a class of its own, for training and test."""
    (root / 'annotations').mkdir(parents=True)
    categories = [dict(id=label, name=name) for label, name in enumerate(classes, 1)]
    for seed, split in enumerate(('train2017', 'val2017')):
        (root / split).mkdir()
        content = dict(images=[], annotations=[], categories=categories)
        for number, (name, left, top) in enumerate(squares(root / split, images, seed), 1):
            content['images'].append(dict(id=number, file_name=f'{name}.jpg', width=64, height=64))
            x, y = left - 1, top - 1
            outline = [x, y, x + 40, y, x + 40, y + 40, x, y + 40]
            content['annotations'].append(
                dict(id=number, image_id=number, category_id=number, iscrowd=0, area=1600,
                     bbox=[x, y, 40, 40], segmentation=[outline])
            )  # fmt: skip
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))
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


def shrink(config: Config, scale: tuple[int, int] = SCALE) -> Config:
    """Tiny images and no workers: nothing of the recipe."""
    for part in dicts_in(config._cfg_dict):
        if part.get('type') == 'Resize':
            part['scale'] = scale
        if part.get('type') == 'RandomChoiceResize':
            part['scales'] = [scale]
        if 'ann_file' in part and 'pipeline' in part:
            part['serialize_data'] = False  # Which would collect garbage, for a second.
        if 'num_workers' in part:
            part.update(num_workers=0, persistent_workers=False)
    return config


def shrunk(path: Path, folder: Path, scale: tuple[int, int] = SCALE) -> Path:
    """The config, written anew with tiny images and without checkpoints."""
    config = shrink(Config.fromfile(path), scale)
    config.default_hooks.checkpoint = None
    config.dump(folder / 'tiny.py')
    return folder / 'tiny.py'
