# CIFAR-10 with the views of SimCLR, without blur; how many an image has is up to the config.
_base_ = 'cifar10_invp.py'

train_views = [
    dict(type='RandomResizedCrop', size=32, scale=(0.2, 1.0)),
    dict(type='RandomHorizontalFlip', p=0.5),
    dict(
        type='RandomApply',
        transforms=[
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        ],
        p=0.8,
    ),
    dict(type='RandomGrayscale', p=0.2),
]
