# Loaders of a data set with one label per image. A data set adds data_root, lists and pipelines.
load_image = dict(type='LoadImage')
pack_inputs = dict(
    type='mmcls.PackClsInputs', meta_keys=['sample_idx', 'img_path', 'gt_label_difficult']
)
collate_fn = dict(type='mmselfsup_invp.default_collate')

train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=collate_fn,
    dataset=dict(type='mmcls.CustomDataset', ann_file='meta/train.txt'),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=collate_fn,
    dataset=dict(type='mmcls.CustomDataset', ann_file='meta/test.txt'),
)
