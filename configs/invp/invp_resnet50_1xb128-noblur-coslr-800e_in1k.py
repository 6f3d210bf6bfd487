# With the other augmentation of the official code (without --blur): no blur, and every image is
# jittered. It is unknown which of them the paper used with the linear neck.
_base_ = 'invp_resnet50_1xb128-coslr-800e_in1k.py'

train_views = [
    dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0)),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    dict(type='RandomHorizontalFlip', p=0.5),
]
train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views),
    _base_.pack_inputs,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
