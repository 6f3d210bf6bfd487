# CIFAR-10 at its original size, for frozen features.
_base_ = 'cifar10.py'

num_classes = 10
still = dict(sampler=dict(type='DefaultSampler', shuffle=False), num_workers=0)
train_dataloader = dict(
    persistent_workers=False, dataset=dict(pipeline=_base_.test_pipeline), **still
)
test_dataloader = dict(_base_.val_dataloader, **still)
