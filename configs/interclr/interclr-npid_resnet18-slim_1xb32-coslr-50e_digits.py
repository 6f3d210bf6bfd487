# InterCLR in minutes on a laptop: a ResNet-18 of a quarter of the width, on handwritten digits. The
# linear neck leaves the plateau at the start of training much sooner than the MLP neck.
_base_ = [
    '../_base_/models/interclr-npid_resnet18-cifar.py',
    '../_base_/datasets/digits_invp.py',
    '../_base_/schedules/sgd_coslr-200e_interclr.py',
    '../_base_/interclr_runtime.py',
]

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(stem_channels=16, base_channels=16),
    neck=dict(in_channels=128, hid_channels=None),
    head=dict(num_negatives=512),
    branch=dict(num_negatives=128, memory=dict(num_clusters=30)),
)

optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=50, by_epoch=True, begin=0, end=50)]
train_cfg = dict(max_epochs=50)

default_hooks = dict(
    clusters=dict(extract_dataloader=_base_.gallery_dataloader),
    knn=dict(
        _base_.knn,
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
    logger=dict(interval=10),
)
auto_scale_lr = dict(base_batch_size=32)
