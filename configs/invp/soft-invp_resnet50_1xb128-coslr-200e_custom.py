# Soft propagation with a weak teacher on your own images, without labels. Put them into
# data/custom/train, in folders or not. The linear neck and the temperature were chosen on 10,000
# images (benchmarks/arena); the other values are those of the CIFAR-10 config.
_base_ = [
    '../_base_/models/invp_resnet50.py',
    '../_base_/datasets/imagenet_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/invp_runtime.py',
]

model = dict(
    type='SoftInvP',
    encoder_momentum=0.99,
    key_splits=4,
    head=dict(_delete_=True, type='SoftInvPHead', num_background=4096),
    memory=dict(num_neighbours=20, momentum=0),
)

# The teacher's view is only cropped and flipped.
key_views = [_base_.train_views[0], _base_.train_views[-1]]
train_pipeline = [
    _base_.load_image,
    dict(
        type='AugmentedViews',
        transforms=_base_.train_views,
        key_transforms=key_views,
        num_views=2,
    ),
    _base_.pack_inputs,
]

data_root = 'data/custom/'
train_dataloader = dict(
    dataset=dict(
        type='ImageFiles',
        data_root=data_root,
        data_prefix=dict(img_path='train'),
        ann_file='',  # All images of the folder; or a list of them, one path a line.
        pipeline=train_pipeline,
    )
)

param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, begin=0, end=200)]
train_cfg = dict(max_epochs=200)
auto_scale_lr = dict(base_batch_size=128)
