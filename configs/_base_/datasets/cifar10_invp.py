# One view of each image by the official CIFAR recipe, which does not flip. The folder layout is
# what tools/convert_cifar.py writes.
dataset_type = 'mmcls.CustomDataset'
data_root = 'data/cifar10/'

train_views = [
    dict(type='RandomResizedCrop', size=32, scale=(0.2, 1.0)),
    dict(
        type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4,
        hue=0.4),
    dict(type='RandomGrayscale', p=0.2),
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
    dict(
        type='PackSelfSupInputs',
        algorithm_keys=['sample_idx'],
        meta_keys=['img_path']),
]

train_set = dict(
    type=dataset_type,
    data_root=data_root,
    ann_file='meta/train.txt',
    data_prefix=dict(img_path='train'),
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=train_set)
# The training images without augmentation, and the test images: the two sides of kNN.
gallery_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(train_set, pipeline=test_pipeline))
query_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta/test.txt',
        data_prefix=dict(img_path='test'),
        pipeline=test_pipeline))

custom_hooks = [
    dict(type='EpochSeedHook'),
    dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=30),
    dict(
        type='KNNEvalHook',
        gallery=['bank', 'backbone'],
        query_dataloader=query_dataloader,
        gallery_dataloader=gallery_dataloader,
        k=200,
        temperature=0.07,
        interval=5),
]
