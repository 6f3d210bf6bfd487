# The same network with labels.
_base_ = 'base.py'

model = dict(
    type='Supervised',
    num_classes=10,
    in_channels=_base_.channels,
    data_preprocessor=_base_.one_view,
    backbone=_base_.backbone,
)
