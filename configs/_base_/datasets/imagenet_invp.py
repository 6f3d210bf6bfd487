# One view of each ImageNet image by the recipe of the official code with blur (--blur).
dataset_type = 'mmcls.ImageNet'
data_root = 'data/imagenet/'

train_views = [
    dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0)),
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1)
        ],
        p=0.8),
    dict(type='RandomGrayscale', p=0.2),
    dict(
        type='RandomApply',
        transforms=[dict(type='PILGaussianBlur', sigma=(0.1, 2.0))],
        p=0.5),
    dict(type='RandomHorizontalFlip', p=0.5),
]
test_views = [
    dict(type='Resize', size=256),
    dict(type='CenterCrop', size=224),
]

train_pipeline = [
    dict(type='LoadImage'),
    dict(type='AugmentedViews', transforms=train_views),
    dict(
        type='PackSelfSupInputs',
        algorithm_keys=['sample_idx'],
        meta_keys=['img_path']),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='AugmentedViews', transforms=test_views),
    dict(
        type='PackSelfSupInputs',
        algorithm_keys=['sample_idx'],
        meta_keys=['img_path']),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta/train.txt',
        data_prefix=dict(img_path='train/'),
        pipeline=train_pipeline))
query_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta/val.txt',
        data_prefix=dict(img_path='val/'),
        pipeline=test_pipeline))

# The linear ramp of 30 epochs and the weighted kNN of the official code, on the bank.
custom_hooks = [
    dict(type='EpochSeedHook'),
    dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=30),
    dict(
        type='KNNEvalHook',
        gallery='bank',
        query_dataloader=query_dataloader,
        k=200,
        temperature=0.07,
        interval=10),
]
