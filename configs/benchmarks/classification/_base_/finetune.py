# Transfer by the official code of InvP: 81 epochs, batch 128; the new layer at five times the rate.
_base_ = 'classifier.py'

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=5.0)}),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[50, 70, 80], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=81, val_interval=5)
