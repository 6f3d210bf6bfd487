# One view of each ImageNet image as the InterCLR paper describes it: NPID's crop, flip and
# grayscale with blur and a jitter of saturation and hue alone. Scale of the crop, probability and
# radius of the blur are not given there; they are NPID's and MoCo v2's.
_base_ = 'imagenet_invp.py'

train_views = [
    dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0)),
    dict(type='ColorJitter', saturation=(0.0, 2.0), hue=0.5),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='RandomApply', transforms=[dict(type='PILGaussianBlur', sigma=(0.1, 2.0))], p=0.5),
    dict(type='RandomHorizontalFlip', p=0.5),
]
train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views),
    _base_.pack_inputs,
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
