# InvP on four views of each CIFAR-10 image at a time, without a momentum encoder. All values are
# ours; views, batch, neck and temperature were chosen on a small slice of it (benchmarks/arena).
_base_ = [
    '../_base_/models/invp_resnet18-cifar.py',
    '../_base_/datasets/cifar10_invp.py',
    '../_base_/schedules/sgd_coslr-200e_soft-invp.py',
    '../_base_/invp_runtime.py',
]

model = dict(
    type='MultiViewInvP',
    neck=dict(hid_channels=None),
    # The loss between the views takes the place of the instance loss.
    head=dict(lambda_ins=0.0, loss=dict(temperature=0.07)),
)

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
train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views, num_views=4),
    _base_.pack_inputs,
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))

# An epoch of four views costs as much as two of SimCLR.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=48, by_epoch=True, begin=2, end=50),
]
train_cfg = dict(max_epochs=50)

# Half of the epochs; the graph of an untrained network leads nowhere.
default_hooks = dict(
    memory=dict(ramp_epochs=25),
    knn=dict(
        _base_.knn,
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
)

auto_scale_lr = dict(base_batch_size=32)
