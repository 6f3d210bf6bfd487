_base_ = ['../_base_/layers.py', '../_base_/cifar10.py', '../_base_/runtime.py']

model = dict(num_classes=10, pool_sizes=(4, 4, 4, 2, 2), norm='train')
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=30, by_epoch=True)]
train_cfg = dict(max_epochs=30)

benchmark = dict(
    name='cifar10-linear',
    title='CIFAR-10 at 32 pixels, linear classifiers on the stem and every block',
    kind='training',
    metric='layers/best',
    data='cifar10',
)
