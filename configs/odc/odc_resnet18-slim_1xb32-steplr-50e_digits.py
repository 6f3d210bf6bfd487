# ODC in minutes on a laptop: a ResNet-18 of a quarter of the width, on handwritten digits.
_base_ = [
    '../_base_/models/odc_resnet50.py',
    '../_base_/datasets/digits_invp.py',
    '../_base_/schedules/sgd_steplr-440e_odc.py',
    '../_base_/odc_runtime.py',
]

num_classes = 30
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='mmcls.ResNet_CIFAR',
        depth=18,
        stem_channels=16,
        base_channels=16,
        num_stages=4,
        out_indices=(3,),
        zero_init_residual=False,
    ),
    neck=dict(in_channels=128),
    head=dict(num_classes=num_classes),
    memory_bank=dict(num_classes=num_classes),
)

optim_wrapper = dict(optimizer=dict(lr=0.03))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[40], gamma=0.4)]
train_cfg = dict(max_epochs=50)

default_hooks = dict(
    clusters=dict(extract_dataloader=_base_.gallery_dataloader),
    knn=dict(
        _base_.knn,
        gallery='backbone',
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
    logger=dict(interval=10),
)
auto_scale_lr = dict(base_batch_size=32)
