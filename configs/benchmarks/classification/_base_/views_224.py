# Images at the size of ImageNet, by the recipe of most linear evaluations.
_base_ = 'loaders.py'

train_pipeline = [
    _base_.load_image,
    dict(type='mmcls.RandomResizedCrop', scale=224, backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    _base_.pack_inputs,
]
test_pipeline = [
    _base_.load_image,
    dict(type='mmcls.ResizeEdge', scale=256, backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    _base_.pack_inputs,
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
