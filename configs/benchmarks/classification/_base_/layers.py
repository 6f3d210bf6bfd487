# Linear classifiers on the stem and every block of a frozen ResNet, all at once, by the official
# code of InvP: 120 epochs, batch 256, no weight decay.
model = dict(
    type='LayerwiseProbe',
    backbone=dict(type='mmselfsup.ResNet', depth=50),
    num_classes=1000,
    pool_sizes=(12, 6, 4, 3, 1),
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
)

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0)
)
param_scheduler = [dict(type='MultiStepLR', milestones=[50, 80, 100], gamma=0.1, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=120, val_interval=1)
val_cfg = dict()
val_evaluator = dict(type='LayerwiseMetric', score='top1')

benchmark = dict(network='Res')
