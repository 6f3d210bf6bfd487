# Soft propagation with a weak teacher.
_base_ = 'base.py'

network_passes = 4

model = dict(
    type='SoftInvP',
    encoder_momentum=0.99,
    data_preprocessor=dict(_base_.two_views, views=[_base_.strong_view, _base_.weak_view]),
    backbone=_base_.backbone,
    neck=_base_.neck,
    head=dict(type='SoftInvPHead', propagation=0.5, num_background=None),
    memory=dict(type='PropagationMemory', feat_dim=128, num_neighbours=20, momentum=0),
)

propagation_start = 0.5
default_hooks = dict(
    memory=dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=30, health_interval=5),
    knn=dict(gallery=['bank', 'backbone']),
)
