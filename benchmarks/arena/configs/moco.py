# MoCo v2 (https://arxiv.org/abs/2003.04297), its momentum and queue in proportion to the data.
_base_ = 'base.py'

network_passes = 4

model = dict(
    type='MoCo',
    queue_len=4096,
    feat_dim=128,
    momentum=0.99,
    data_preprocessor=_base_.two_views,
    backbone=_base_.backbone,
    neck=_base_.neck,
    head=dict(type='ContrastiveHead', loss=dict(type='mmcls.CrossEntropyLoss'), temperature=0.07),
)
