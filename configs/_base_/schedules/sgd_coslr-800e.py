# InvP, section 4 and official code: SGD, momentum 0.9, cosine to zero by epoch, no warm-up.
# The weight decay 1e-4 is that of the official README for ImageNet.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4)
)

param_scheduler = [dict(type='CosineAnnealingLR', T_max=800, by_epoch=True, begin=0, end=800)]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
