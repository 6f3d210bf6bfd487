# SimCLR (https://arxiv.org/abs/2002.05709).
_base_ = 'base.py'

network_passes = 6

model = dict(
    type='SimCLR',
    data_preprocessor=_base_.two_views,
    backbone=_base_.backbone,
    neck=_base_.neck,
    head=dict(type='ContrastiveHead', loss=dict(type='mmcls.CrossEntropyLoss'), temperature=0.07),
)
