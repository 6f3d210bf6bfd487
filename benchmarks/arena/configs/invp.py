# InvP as in the paper, with the linear neck. The background and the positives are those of the
# CIFAR-10 config, in proportion to the bank; the propagation enters at once.
_base_ = 'base.py'

model = dict(
    type='InvP',
    data_preprocessor=_base_.one_view,
    backbone=_base_.backbone,
    neck=_base_.neck,
    head=dict(
        type='InvPHead',
        hops=3,
        lambda_inv=0.6,
        loss=dict(type='HardSamplingLoss', temperature=0.07, num_background=1024, num_hard=20),
    ),
    memory=dict(type='PropagationMemory', feat_dim=128, num_neighbours=4, momentum=0.5),
)

# Share of the epochs before the propagation starts; the harness turns it into epochs.
propagation_start = 0.5
default_hooks = dict(
    memory=dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=30, health_interval=5),
    knn=dict(gallery=['bank', 'backbone']),
)
