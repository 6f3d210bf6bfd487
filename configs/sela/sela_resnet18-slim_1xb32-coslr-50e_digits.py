# SeLa in minutes on a laptop: a ResNet-18 of a quarter of the width, on handwritten digits. Few
# classes for few images; all heads are relabelled about once per epoch.
_base_ = [
    '../_base_/models/sela_resnet18-cifar.py',
    '../_base_/datasets/digits_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/sela_runtime.py',
]

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=128),
    head=dict(in_channels=128, num_classes=32, num_heads=4),
    memory=dict(num_classes=32, num_heads=4),
)

optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=50, by_epoch=True, begin=0, end=50)]
train_cfg = dict(max_epochs=50)

default_hooks = dict(
    self_label=dict(num_events=50, spacing='linear', lambd=10.0),
    knn=dict(
        _base_.knn,
        gallery='backbone',
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
    logger=dict(interval=10),
)
auto_scale_lr = dict(base_batch_size=32)
