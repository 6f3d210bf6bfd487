# The convolutions of AlexNet by the protocol of SeLa: max-pooled to about 9,600 numbers each.
_base_ = ['../_base_/layers.py', '../_base_/imagenet.py', '../_base_/runtime.py']

model = dict(
    backbone=dict(_delete_=True, type='mmselfsup.AlexNetBN'),
    pool_sizes=(10, 6, 5, 5, 6),
    pool='max',
    norm='plain',
)
train_dataloader = dict(batch_size=192)
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=1e-5))
param_scheduler = [dict(type='StepLR', step_size=10, gamma=0.1, by_epoch=True)]
train_cfg = dict(max_epochs=36)

benchmark = dict(
    name='imagenet-linear-alexnet',
    title='ImageNet, linear classifiers on the five convolutions of AlexNet, 36 epochs',
    kind='training',
    network='AlexNet',
    metric='layers/best',
    data='imagenet',
    published={'SeLa 1 head of 1000': 42.1, 'SeLa 1 head of 10,000': 43.8},
)
