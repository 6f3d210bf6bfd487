# One view of each CIFAR-10 image, resized for AlexNet, by the recipe of the official SeLa code.
_base_ = 'cifar10_invp.py'

train_views = [
    dict(type='Resize', size=256),
    dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='RandomHorizontalFlip', p=0.5),
]
test_views = [
    dict(type='Resize', size=256),
    dict(type='CenterCrop', size=224),
]

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views),
    _base_.pack_inputs,
]
test_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=test_views),
    _base_.pack_inputs,
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
gallery_dataloader = dict(dataset=dict(pipeline=test_pipeline))
query_dataloader = dict(dataset=dict(pipeline=test_pipeline))
