"""Settings for training on own images, chosen from their number and size and from the hardware.

The settings are written as a config that inherits the shipped one for own images. The trials behind
the choice are described in ``docs/en/own_data.md``.
"""

import os
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import torch

from ..options import Fraction, NonNegativeInt, PositiveInt, check_option, unknown_option

BASE = 'invp/soft-invp_resnet50_1xb128-coslr-200e_custom.py'
MIN_IMAGES = 64
# What to expect of fewer than so many images.
EXPECTATIONS = (
    (500, 'So few images: neighbours share colour and layout. A pre-trained network is better.'),
    (2_000, 'Neighbours will share colours, texture and layout, and sometimes the kind of object.'),
    (20_000, 'Kinds of objects begin to separate: 45 % kNN accuracy on 5,000 photos of 10 kinds.'),
    (2**63, 'Enough images to learn kinds of objects; then epochs and the size of views matter.'),
)


@dataclass(frozen=True)
class Hardware:
    """CPU cores that this process may use, and the name of the GPU, empty without one."""

    cores: int
    gpu: str = ''

    @classmethod
    def find(cls) -> 'Hardware':
        """The hardware of this process."""
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ''
        allowed = getattr(os, 'sched_getaffinity', None)  # Linux alone has it.
        return cls(len(allowed(0)) if allowed else os.cpu_count() or 1, gpu)

    def __str__(self) -> str:
        return f'{self.cores} CPU cores, {self.gpu or "no GPU"}'


@dataclass(frozen=True)
class Recipe:
    """Settings that :func:`choose` decides.

    ``image_size`` is in pixels, ``depth`` that of the ResNet. ``ramp_epochs`` are the epochs before
    the neighbours on the graph become positives. ``num_background`` is the number of rows of the
    bank in the softmax, None for all.
    """

    image_size: PositiveInt
    depth: PositiveInt
    batch_size: PositiveInt
    epochs: PositiveInt
    ramp_epochs: NonNegativeInt
    learning_rate: Fraction
    num_background: PositiveInt | None
    num_neighbours: PositiveInt
    num_workers: NonNegativeInt


def choose(num_images: int, side: int, hardware: Hardware, **changes: Any) -> Recipe:
    """Choose the settings for a number of images and the median of their shorter sides in pixels.

    ``changes`` are fields of :class:`Recipe` that are given. Too few images, or a change that is
    not valid, raise ``ValueError``.

    Example:
        >>> choose(1000, 480, Hardware(cores=2)).image_size
        64
    """
    hints = get_type_hints(Recipe, include_extras=True)
    for name, value in changes.items():
        if name not in hints:
            raise ValueError(unknown_option('--recipe', name, value, hints))
        check_option('--recipe', name, value, hints[name])
    if num_images < MIN_IMAGES:
        raise ValueError(f'{num_images} images are too few to train on: at least {MIN_IMAGES}.')
    # A large network is worth its time on a GPU and on many images only.
    large = bool(hardware.gpu) and num_images >= 20_000
    batch = 32 if num_images < 2_000 else 64 if num_images < 20_000 else 128
    batch = changes.get('batch_size', batch)
    # An hour or two on a CPU.
    epochs = 200 if hardware.gpu else min(max(200_000 // num_images, 20), 200)
    epochs = changes.get('epochs', epochs)
    chosen = dict(
        image_size=_image_size(side, hardware),
        depth=50 if large else 18,
        batch_size=batch,
        epochs=epochs,
        ramp_epochs=epochs // 2,
        learning_rate=0.12 * min(batch / 64, 1),
        # All rows while they are fewer than a search would save.
        num_background=None if num_images <= 20_000 else 4096,
        num_neighbours=min(20, num_images // 16),
        num_workers=max(1, min(hardware.cores - 1, 8)),
    )
    return Recipe(**{**chosen, **changes})


def _image_size(side: int, hardware: Hardware) -> int:
    """64 on a CPU; on a GPU up to 224, no larger than most images."""
    sizes = (224, 128, 64) if hardware.gpu else (64,)
    return next((size for size in sizes if side >= size), sizes[-1])


# How the settings are used; the same for all folders.
USE = """
model = dict(
    backbone=dict(depth=depth),
    neck=dict(in_channels=512 if depth < 50 else 2048),
    key_splits=max(batch_size // 32, 1),  # Keys are normalised in parts of 32 images.
    head=dict(num_background=num_background),
    memory=dict(num_neighbours=num_neighbours),
)

# Crop, colour jitter, grey and flip; blur only where views are large enough. The teacher's view is
# cropped and flipped.
crop = dict(_base_.train_views[0], size=image_size)
flip = _base_.train_views[4]
train_views = [crop, *_base_.train_views[1 : 4 if image_size >= 128 else 3], flip]
train_pipeline = [
    _base_.load_image,
    dict(
        type='AugmentedViews', transforms=train_views, key_transforms=[crop, flip], num_views=2
    ),
    _base_.pack_inputs,
]
test_views = [dict(type='Resize', size=image_size), dict(type='CenterCrop', size=image_size)]
test_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=test_views),
    _base_.pack_inputs,
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    dataset=dict(
        data_root=images,
        data_prefix=dict(img_path=''),
        broken='skip',  # The next image replaces one that cannot be read.
        pipeline=train_pipeline,
    ),
)

optim_wrapper = dict(optimizer=dict(lr=learning_rate, weight_decay=5e-4))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, begin=0, end=epochs)
]
train_cfg = dict(max_epochs=epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
default_hooks = dict(
    memory=dict(ramp_epochs=ramp_epochs),
    logger=dict(interval=10 if image_size < 128 else 50),
    checkpoint=dict(interval=max(epochs // 20, 1), max_keep_ckpts=2),
)
"""


def settings_text(recipe: Recipe, images: str, about: str = '') -> str:
    """The beginning of a config: a comment, the folder of the images and the settings."""
    values = [f'{field.name} = {getattr(recipe, field.name)!r}' for field in fields(Recipe)]
    comment = [f'# {line}' for line in about.splitlines()]
    base = f"_base_ = 'mmselfsup_invp::{BASE}'"
    return '\n'.join([*comment, base, f'images = {images!r}', *values]) + '\n'


def expectation(num_images: int) -> str:
    """What can be expected of so many images, as a comment of at most 100 characters a line."""
    return next(text for most, text in EXPECTATIONS if num_images < most)
