# Our choice: SGD, momentum 0.9, 5 epochs of warm-up, cosine to zero by epoch.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.06, momentum=0.9, weight_decay=5e-4)
)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=5),
    dict(type='CosineAnnealingLR', T_max=195, by_epoch=True, begin=5, end=200),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
