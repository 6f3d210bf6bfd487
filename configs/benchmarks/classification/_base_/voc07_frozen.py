# VOC 2007 for SVMs: images are resized to 224 x 224 and not cropped.
_base_ = 'voc07.py'

pipeline = [
    _base_.load_image,
    dict(type='mmcls.ResizeEdge', scale=256, backend='pillow'),
    dict(type='Resize', scale=(224, 224), backend='pillow'),
    _base_.pack_inputs,
]
still = dict(batch_size=64, sampler=dict(type='DefaultSampler', shuffle=False))
train_dataloader = dict(dataset=dict(pipeline=pipeline), **still)
test_dataloader = dict(_base_.val_dataloader, **still)
test_dataloader['dataset'] = dict(_base_.val_dataloader['dataset'], pipeline=pipeline)
