# InvP in minutes on a laptop: a ResNet-18 of a quarter of the width, on handwritten digits. The
# linear neck (temperature 0.07) leaves the plateau at the start of training much sooner than the
# MLP neck. The batch is small, because a small data set gives few iterations per epoch.
_base_ = [
    '../_base_/models/invp_resnet18-cifar.py',
    '../_base_/datasets/digits_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/invp_runtime.py',
]

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=128, hid_channels=None),
    head=dict(loss=dict(temperature=0.07, num_background=512)),
)

optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=50, by_epoch=True, begin=0, end=50)]
train_cfg = dict(max_epochs=50)

default_hooks = dict(
    memory=dict(ramp_epochs=15),
    knn=dict(
        _base_.knn,
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
    logger=dict(interval=10),
)
auto_scale_lr = dict(base_batch_size=32)
