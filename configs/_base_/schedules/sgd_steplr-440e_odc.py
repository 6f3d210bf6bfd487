# ODC: SGD, momentum 0.9 but none in the head, one late step, for a batch of 512.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.06, momentum=0.9, weight_decay=1e-5),
    paramwise_cfg=dict(custom_keys={'head': dict(momentum=0.0)}),
)

param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[400], gamma=0.4)]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=440)
