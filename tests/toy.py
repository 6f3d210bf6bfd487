"""A data set, a network and a runner small enough to train in a test."""

import copy
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

import mmselfsup_invp  # noqa: F401  (registers)
from mmselfsup_invp.compat.host import MODELS, BaseModel, DataSample, make_sample

DIM = 16  # Dimensions of the embedding.


def rows(count: int, dim: int = DIM, seed: int = 0) -> Tensor:
    """Random unit rows."""
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)))


def samples(*ids: int) -> list[DataSample]:
    """Data samples with these ids, as the pipeline packs them."""
    return [make_sample(torch.tensor([index]), metainfo={}) for index in ids]


def image_folder(root: Path, images: int = 24, classes: int = 3, seed: int = 0) -> Path:
    """Write train and test images, 16 x 16, that differ by class, and their lists."""
    random = np.random.default_rng(seed)
    colours = random.integers(40, 216, (classes, 3))
    (root / 'meta').mkdir(parents=True)
    for split, count in (('train', images), ('test', images // 2)):
        (root / split).mkdir()
        lines = []
        for number in range(count):
            label = number % classes
            noise = random.integers(-40, 40, (16, 16, 3))
            pixels = (colours[label] + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / f'{number:03d}.png')
            lines.append(f'{number:03d}.png {label}\n')
        (root / 'meta' / f'{split}.txt').write_text(''.join(lines))
    bare = [f'{line.split()[0]}\n' for line in (root / 'meta' / 'train.txt').open()]
    (root / 'meta' / 'unlabelled.txt').write_text(''.join(bare))
    several = [
        dict(img_path=line.strip(), gt_label=[*range(number % classes + 1)])
        for number, line in enumerate(bare)
    ]
    text = json.dumps(dict(metainfo={}, data_list=several))
    (root / 'meta' / 'several.json').write_text(text)
    return root


# Lists of the training images without a label, and with one to three.
NOT_ONE_LABEL = ['meta/unlabelled.txt', 'meta/several.json']


def model_config(name: str = 'InvP', **changes: Any) -> dict:
    """A small model of the structure of the shipped configs; changes are merged."""
    memory = 'PropagationQueue' if name == 'MomentumInvP' else 'PropagationMemory'
    config = dict(
        type=name,
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
        backbone=dict(
            type='mmcls.ResNet_CIFAR',
            depth=18,
            stem_channels=8,
            base_channels=8,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(1,),
        ),
        neck=dict(type='ProjectionNeck', in_channels=16, hid_channels=16, out_channels=DIM),
        head=dict(
            type='InvPHead',
            hops=2,
            loss=dict(type='HardSamplingLoss', temperature=0.2, num_background=10, num_hard=4),
        ),
        memory=dict(type=memory, feat_dim=DIM, num_neighbours=2),
    )
    return merged(config, changes)


def branch_config(**changes: Any) -> dict:
    """An inter-image branch for the images of these tests; changes are merged."""
    config = dict(
        type='OnlineClusterBranch',
        num_negatives=6,
        loss=dict(type='MarginNCELoss', temperature=0.2, margin=-0.5),
        memory=dict(type='ClusterMemory', num_clusters=4, feat_dim=DIM),
    )
    return merged(config, changes)


def interclr_config(name: str = 'InterCLR', **changes: Any) -> dict:
    """InterCLR of the structure of the shipped configs; changes are merged."""
    config = model_config()
    del config['memory']
    loss = dict(type='MarginNCELoss', temperature=0.2)
    heads = dict(
        InterCLR=dict(type='BankMarginHead', num_negatives=8, loss=loss),
        MomentumInterCLR=dict(type='QueueMarginHead', loss=loss),
    )
    config.update(type=name, head=heads[name], branch=branch_config())
    if name == 'MomentumInterCLR':
        config['queue'] = dict(type='KeyQueue', length=20, feat_dim=DIM)
    return merged(config, changes)


def sela_config(**changes: Any) -> dict:
    """SeLa with 2 heads of 3 classes; changes are merged."""
    config = model_config()
    config.update(
        type='SeLa',
        neck=dict(type='FullyConnectedNeck', in_channels=16),
        head=dict(type='SelfLabelHead', in_channels=16, num_classes=3, num_heads=2),
        memory=dict(type='SelfLabelMemory', num_classes=3, num_heads=2),
    )
    return merged(config, changes)


def build_model(config: dict) -> BaseModel:
    """The model of a :func:`model_config`, with initial weights."""
    model = MODELS.build(copy.deepcopy(config))
    model.init_weights()
    return model


VIEWS = [
    dict(type='RandomResizedCrop', size=16, scale=(0.5, 1.0)),
    dict(type='ColorJitter', brightness=0.4),
]


def loader(
    root: Path,
    split: str = 'train',
    views: list[dict] | None = None,
    num_views: int = 1,
    batch_size: int = 8,
    num_workers: int = 0,
    ann_file: str | None = None,
) -> dict:
    """Config of a loader: shuffled and augmented with views, else neither.

    A list in JSON is one of a multi-label data set.
    """
    ann_file = ann_file or f'meta/{split}.txt'
    pipeline = [
        dict(type='LoadImage'),
        dict(type='PackSelfSupInputs', algorithm_keys=['sample_idx'], meta_keys=['img_path']),
    ]
    if views:
        pipeline.insert(1, dict(type='AugmentedViews', transforms=views, num_views=num_views))
    return dict(
        batch_size=batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=bool(views)),
        collate_fn=dict(type='mmselfsup_invp.default_collate'),
        dataset=dict(
            type='mmcls.MultiLabelDataset' if ann_file.endswith('.json') else 'ImageList',
            data_root=str(root),
            ann_file=ann_file,
            data_prefix=split,
            pipeline=pipeline,
            serialize_data=False,  # Serialising runs the garbage collector, for about a second.
        ),
    )


def build_dataset(config: dict) -> BaseDataset:
    """The data set of a :func:`loader` config."""
    with DefaultScope.overwrite_default_scope('mmselfsup_invp'):
        return DATASETS.build(copy.deepcopy(config))


def build_loader(config: dict) -> DataLoader:
    """The loader of a :func:`loader` config."""
    with DefaultScope.overwrite_default_scope('mmselfsup_invp'):
        return Runner.build_dataloader(copy.deepcopy(config), seed=0)


def runner_config(root: Path, work_dir: Path, epochs: int = 2, **changes: Any) -> Config:
    """A whole run: InvP on the image folder, with the seed and memory hooks; changes are merged.

    A model given by its type replaces InvP.
    """
    config = dict(
        default_scope='mmselfsup_invp',
        model=model_config(),
        train_dataloader=loader(root, views=VIEWS),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=8, by_epoch=True, end=8)],
        randomness=dict(seed=0),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=-1, save_last=False),
        ),
        custom_hooks=[
            dict(type='EpochSeedHook'),
            dict(type='PropagationMemoryHook', ramp='constant'),
        ],
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)),
        work_dir=str(work_dir),
        experiment_name=uuid4().hex,  # MMEngine keeps loggers and message hubs by this name.
    )
    return Config(merged(config, changes))


def build_runner(root: Path, work_dir: Path, epochs: int = 2, **changes: Any) -> Runner:
    """The runner of :func:`runner_config`."""
    runner = Runner.from_cfg(runner_config(root, work_dir, epochs, **changes))
    runner.register_hook(StopWorkers())
    return runner


class StopWorkers(Hook):
    """Ends persistent workers when the run ends."""

    def after_run(self, runner: Runner) -> None:
        stop_workers(runner.train_dataloader)


def stop_workers(loader: DataLoader) -> None:
    """End persistent workers; when they are garbage-collected later, each takes 5 seconds."""
    if loader.persistent_workers and loader._iterator is not None:
        loader._iterator._shutdown_workers()


def merged(config: dict, changes: dict) -> dict:
    """Copy a config with changes; dicts are merged, unless they name another type."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        old = config.get(key)
        same = isinstance(old, dict) and isinstance(value, dict)
        if same and value.get('type', old.get('type')) == old.get('type'):
            config[key] = merged(old, value)
        else:
            config[key] = copy.deepcopy(value)
    return config
