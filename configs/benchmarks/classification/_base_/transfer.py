# Images of the transfer data sets at the size of ImageNet, by the official code of InvP.
_base_ = 'loaders.py'

resize = dict(type='mmcls.ResizeEdge', scale=256, backend='pillow')
train_pipeline = [
    _base_.load_image,
    resize,
    dict(type='mmcls.RandomCrop', crop_size=224),
    dict(type='RandomFlip', prob=0.5),
    _base_.pack_inputs,
]
test_pipeline = [
    _base_.load_image,
    resize,
    dict(type='CenterCrop', crop_size=224),
    _base_.pack_inputs,
]

train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
