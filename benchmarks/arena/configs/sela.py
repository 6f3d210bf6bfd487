# SeLa, with ten heads of 128 classes as in its CIFAR recipe; the labels of all heads are assigned
# anew about once in every second epoch.
_base_ = 'base.py'

model = dict(
    type='SeLa',
    data_preprocessor=_base_.one_view,
    backbone=_base_.backbone,
    neck=dict(type='FullyConnectedNeck', in_channels=_base_.channels),
    head=dict(type='SelfLabelHead', in_channels=_base_.channels, num_classes=128, num_heads=10),
    memory=dict(type='SelfLabelMemory', num_classes=128, num_heads=10),
)

default_hooks = dict(
    self_label=dict(type='SelfLabelHook', num_events=30, spacing='linear', lambd=10.0)
)
