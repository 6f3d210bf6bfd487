# InvP on four views of each CIFAR-10 image at a time, without a momentum encoder. All values are
# ours; views, batch, neck and temperature were chosen on a small slice of it (benchmarks/arena).
_base_ = [
    '../_base_/models/invp_resnet18-cifar.py',
    '../_base_/datasets/cifar10_simclr.py',
    '../_base_/schedules/sgd_coslr-200e_soft-invp.py',
    '../_base_/invp_runtime.py',
]

model = dict(
    type='MultiViewInvP',
    neck=dict(hid_channels=None),
    # The loss between the views takes the place of the instance loss.
    view_loss=dict(type='ViewContrastLoss', temperature=0.07),
    head=dict(lambda_ins=0.0, loss=dict(temperature=0.07)),
)

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=_base_.train_views, num_views=4),
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
