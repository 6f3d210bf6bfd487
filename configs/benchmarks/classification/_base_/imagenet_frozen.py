# ImageNet for frozen features, globally pooled.
_base_ = ['imagenet.py', 'frozen.py']

num_classes = 1000
pool_size = 1
still = dict(sampler=dict(type='DefaultSampler', shuffle=False))
train_dataloader = dict(
    persistent_workers=False, dataset=dict(pipeline=_base_.test_pipeline), **still
)
test_dataloader = dict(_base_.val_dataloader, **still)
