# One view of each ImageNet image by the recipe of the official SeLa code (augmentation level 3).
_base_ = 'imagenet_invp.py'

train_views = [
    dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0)),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    dict(type='RandomHorizontalFlip', p=0.5),
]

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views),
    _base_.pack_inputs,
]

train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
