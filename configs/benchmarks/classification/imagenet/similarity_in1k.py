_base_ = ['../_base_/imagenet.py', '../_base_/frozen.py']

num_classes = 1000
pool_size = 1
still = dict(sampler=dict(type='DefaultSampler', shuffle=False))
train_dataloader = dict(
    persistent_workers=False, dataset=dict(pipeline=_base_.test_pipeline), **still
)
test_dataloader = dict(_base_.val_dataloader, **still)

# Figure 2a of InvP does not say which images are the queries, nor how many.
benchmark = dict(
    name='imagenet-similarity',
    title='ImageNet, similarity to the nearest images of a class and of others (Figure 2a of InvP)',
    kind='similarity',
    metric='auroc',
    data='imagenet',
    options=dict(num_neighbours=5, num_others=1500, num_queries=5000),
)
