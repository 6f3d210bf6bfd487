"""A run of every method: its model, its loader and its hook."""

from pathlib import Path
from typing import Any

from mmselfsup_invp.compat import host_name

from .. import toy

ODC = dict(
    type='ODC',
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=toy.model_config()['backbone'],
    neck=dict(
        type='ODCNeck',
        in_channels=16,
        hid_channels=16,
        out_channels=toy.DIM,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type='ClsHead',
        in_channels=toy.DIM,
        num_classes=4,
        loss=dict(type='mmcls.CrossEntropyLoss'),
    ),
    memory_bank=dict(type='ODCClusterMemory', num_classes=4, feat_dim=toy.DIM),
)
QUEUE = dict(length=20)

MODELS = {
    'InvP': toy.model_config(),
    'MultiViewInvP': toy.model_config('MultiViewInvP'),
    'MomentumInvP': toy.model_config('MomentumInvP', memory=QUEUE),
    'InterCLR': toy.interclr_config(),
    'MomentumInterCLR': toy.interclr_config('MomentumInterCLR'),
    'SeLa': toy.sela_config(),
}
SOFT_INVP = toy.merged(
    MODELS['InvP'],
    dict(
        type='SoftInvP',
        head=dict(type='SoftInvPHead', num_target=6, num_background=None, trust=0.5),
        memory=dict(type='PropagationMemory', feat_dim=toy.DIM, num_neighbours=3),
    ),
)
if host_name() == 'mmselfsup':  # MMPretrain has no ODC.
    MODELS['ODC'] = ODC


def hook_config(name: str, images: Path, **options: Any) -> dict:
    """The hook that maintains the memory of a method."""
    if name == 'SeLa':
        return dict(type='SelfLabelHook', **{'num_events': 2, **options})
    if name.endswith('InvP'):
        return dict(type='PropagationMemoryHook', **{'ramp': 'constant', **options})
    loader = toy.loader(images, batch_size=5)
    return dict(type='OnlineClusterHook', **{'extract_dataloader': loader, **options})


def num_views(name: str) -> int:
    """Views of an image that a method is trained on."""
    return 2 if name.startswith(('Momentum', 'Soft', 'MultiView')) else 1


def changes(name: str, images: Path, *, loader: dict | None = None, **options: Any) -> dict:
    """Changes to :func:`toy.runner_config` for a method; options are those of its hook."""
    return dict(
        model=SOFT_INVP if name == 'SoftInvP' else MODELS[name],
        train_dataloader=toy.loader(
            images, views=toy.VIEWS, num_views=num_views(name), **(loader or {})
        ),
        custom_hooks=[dict(type='EpochSeedHook'), hook_config(name, images, **options)],
    )
