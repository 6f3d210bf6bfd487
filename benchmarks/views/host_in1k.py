# InvP on ImageNet with the transforms of MMSelfSup 1.0 (its pipeline of MoCo v2 with one view).
_base_ = '../../configs/invp/invp_resnet50_1xb128-coslr-200e_in1k.py'

view_pipeline = [
    dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0), backend='pillow'),
    dict(
        type='RandomApply',
        transforms=[
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        ],
        prob=0.8,
    ),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.114, 0.587, 0.2989),
    ),
    dict(type='RandomGaussianBlur', sigma_min=0.1, sigma_max=2.0, prob=0.5),
    dict(type='RandomFlip', prob=0.5),
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiView', num_views=1, transforms=[view_pipeline]),
    _base_.pack_inputs,
]
train_dataloader = dict(
    collate_fn=dict(type='default_collate', _delete_=True),
    dataset=dict(pipeline=train_pipeline),
)

# Mixed precision, which needs a GPU.
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
