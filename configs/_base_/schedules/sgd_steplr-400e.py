# SeLa on ImageNet: SGD, momentum 0.9, the default learning rate of the official code (its help text
# says 0.05), a tenth of it from epochs 150, 300 and 350 on.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.08, momentum=0.9, weight_decay=1e-5)
)

param_scheduler = [
    dict(type='MultiStepLR', milestones=[150, 300, 350], gamma=0.1, by_epoch=True, begin=0, end=400)
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=400)
