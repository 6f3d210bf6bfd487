# Linear classifiers with binary cross entropy instead of SVMs, by the official code of InvP,
# which reports the sixteenth layer and does not normalise features. Its 1900
# iterations, halved every 760, are 100 and 40 epochs of batches of 256.
_base_ = ['../_base_/layers.py', '../_base_/voc07.py', '../_base_/runtime.py']

model = dict(num_classes=20, labels='multi', pool_sizes=(12, 6, 4, 3, 2), norm='none')
train_pipeline = [
    _base_.load_image,
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmcls.RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), backend='pillow'),
    _base_.pack_inputs,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(lr=3.0, weight_decay=1e-6))
param_scheduler = [dict(type='StepLR', step_size=40, gamma=0.5, by_epoch=True)]
train_cfg = dict(max_epochs=100, val_interval=5)
val_evaluator = dict(score='map')

benchmark = dict(
    name='voc07-linear',
    title='VOC 2007 classification, linear classifiers with binary cross entropies on 17 layers',
    kind='training',
    metric='layers/best',
    data='voc2007',
    published={'InvP ResNet-50 800 epochs': 84.2, 'InvP ResNet-50-MLP 800 epochs': 84.7},
)
