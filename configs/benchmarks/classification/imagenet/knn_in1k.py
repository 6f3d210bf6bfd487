_base_ = ['../_base_/imagenet.py', '../_base_/frozen.py']

num_classes = 1000
pool_size = 1
still = dict(sampler=dict(type='DefaultSampler', shuffle=False))
train_dataloader = dict(
    persistent_workers=False, dataset=dict(pipeline=_base_.test_pipeline), **still
)
test_dataloader = dict(_base_.val_dataloader, **still)

benchmark = dict(
    name='imagenet-knn',
    title='ImageNet, weighted kNN on globally pooled features',
    kind='knn',
    data='imagenet',
    options=dict(k=200, temperature=0.07),
)
