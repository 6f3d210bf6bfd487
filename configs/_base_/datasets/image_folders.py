# Three loaders over ROOT/{train,test}/CLASS/*.png with the lists ROOT/meta/{train,test}.txt, the
# layout that tools/convert_dataset.py writes. A data set adds data_root and its pipelines, which
# begin with load_image and end with pack_inputs.
load_image = dict(type='LoadImage')
# sample_idx is the number of the image in its data set, and of its row in the bank.
pack_inputs = dict(type='PackSelfSupInputs', algorithm_keys=['sample_idx'], meta_keys=['img_path'])

# default_collate with the ids of a batch in one tensor, which workers send faster. It can also be
# used in a config that is inherited as mmselfsup_invp::...
collate_fn = dict(type='mmselfsup_invp.default_collate')

train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,  # Every image has a row in the bank and is visited in every epoch.
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=collate_fn,
    dataset=dict(
        type='mmcls.CustomDataset',
        ann_file='meta/train.txt',
        data_prefix=dict(img_path='train'),
    ),
)

# Options of KNNEvalHook; a config that uses it adds the loaders below.
knn = dict(type='KNNEvalHook', gallery=['bank', 'backbone'], k=200, temperature=0.07, interval=5)
# For kNN: the training images without augmentation, and the test images.
gallery_dataloader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=collate_fn,
    dataset=train_dataloader['dataset'],
)
query_dataloader = dict(
    gallery_dataloader,
    dataset=dict(
        type='mmcls.CustomDataset',
        ann_file='meta/test.txt',
        data_prefix=dict(img_path='test'),
    ),
)
