_base_ = ['../_base_/layers.py', '../_base_/digits.py', '../_base_/runtime.py']

model = dict(num_classes=10, pool_sizes=(4, 4, 4, 2, 1), norm='train')
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=20, by_epoch=True)]
train_cfg = dict(max_epochs=20)

benchmark = dict(
    name='digits-linear',
    title='handwritten digits, linear classifiers on the stem and every block',
    kind='training',
    metric='layers/best',
    data='digits',
)
