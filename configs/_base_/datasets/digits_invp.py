# The handwritten digits inside scikit-learn, written as folders by
#   python tools/convert_dataset.py digits data/digits
# 8 x 8 pixels, shown to the network at 16 x 16.
dataset_type = 'mmcls.CustomDataset'
data_root = 'data/digits/'

train_views = [
    dict(type='RandomAffine', degrees=10, translate=(0.1, 0.1)),
    dict(type='RandomResizedCrop', size=16, scale=(0.5, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4),
]
test_views = [dict(type='Resize', size=16)]

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

train_set = dict(
    type=dataset_type,
    data_root=data_root,
    ann_file='meta/train.txt',
    data_prefix=dict(img_path='train'),
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=train_set)
gallery_dataloader = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(train_set, pipeline=test_pipeline))
query_dataloader = dict(
    batch_size=256,
    num_workers=0,
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
    dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=15),
    dict(
        type='KNNEvalHook',
        gallery=['bank', 'backbone'],
        query_dataloader=query_dataloader,
        gallery_dataloader=gallery_dataloader,
        k=20,
        temperature=0.07,
        interval=5),
]
