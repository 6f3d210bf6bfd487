# A few labels by the official code of InvP: 30 epochs, batch 128; the new layer at fifty times the
# rate. In the code the rate of that layer is constant; here it decays with the rest.
_base_ = 'classifier.py'

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.0012, momentum=0.9, weight_decay=1e-5),
    paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=50.0)}),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[15, 20, 25], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=2)
