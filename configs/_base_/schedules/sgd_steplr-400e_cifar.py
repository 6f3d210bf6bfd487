# SeLa on CIFAR by the official script: SGD, momentum 0.9, a tenth of the learning rate from epochs
# 240 and 320 on.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=5e-4)
)

param_scheduler = [
    dict(type='MultiStepLR', milestones=[240, 320], gamma=0.1, by_epoch=True, begin=0, end=400)
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=400)
