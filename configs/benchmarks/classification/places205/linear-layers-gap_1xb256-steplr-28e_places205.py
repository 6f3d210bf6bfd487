# Globally pooled, by the schedule of InterCLR: 28 epochs.
_base_ = 'linear-layers_1xb256-steplr-120e_places205.py'

model = dict(pool_sizes=(1, 1, 1, 1, 1), norm='train')
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=1e-4))
param_scheduler = [dict(type='MultiStepLR', milestones=[7, 14, 21], gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=28)
benchmark = dict(
    name='places205-linear-gap',
    title='Places205, linear classifiers on 17 layers, globally pooled, 28 epochs',
)
