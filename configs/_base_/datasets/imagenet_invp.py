# One view of each ImageNet image by the recipe of the official code with blur (--blur). The layout
# is MMSelfSup's: data/imagenet/{train,val} with the lists data/imagenet/meta/{train,val}.txt.
_base_ = 'image_folders.py'

data_root = 'data/imagenet/'

train_views = [
    dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0)),
    dict(
        type='RandomApply',
        transforms=[
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        ],
        p=0.8,
    ),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='RandomApply', transforms=[dict(type='PILGaussianBlur', sigma=(0.1, 2.0))], p=0.5),
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

train_dataloader = dict(
    num_workers=8,
    dataset=dict(type='mmcls.ImageNet', data_root=data_root, pipeline=train_pipeline),
)
gallery_dataloader = dict(
    num_workers=8,
    dataset=dict(type='mmcls.ImageNet', data_root=data_root, pipeline=test_pipeline),
)
query_dataloader = dict(
    num_workers=8,
    dataset=dict(
        type='mmcls.ImageNet',
        data_root=data_root,
        ann_file='meta/val.txt',
        data_prefix=dict(img_path='val'),
        pipeline=test_pipeline,
    ),
)
