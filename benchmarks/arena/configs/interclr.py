# InterCLR on a memory bank, with the linear neck and temperature of the other methods. The clusters
# have about 100 images, as in the CIFAR-10 config.
_base_ = 'base.py'

model = dict(
    type='InterCLR',
    data_preprocessor=_base_.one_view,
    backbone=_base_.backbone,
    neck=_base_.neck,
    intra_weight=0.75,
    head=dict(
        type='BankMarginHead',
        num_negatives=4096,
        loss=dict(type='MarginNCELoss', temperature=0.07, margin=0),
    ),
    branch=dict(
        type='OnlineClusterBranch',
        num_negatives=4096,
        negatives='semi_hard',
        pool_ratio=0.5,
        loss=dict(type='MarginNCELoss', temperature=0.07, margin=-0.5),
        memory=dict(type='ClusterMemory', num_clusters=100, feat_dim=128, momentum=0.5),
    ),
)

default_hooks = dict(
    clusters=dict(
        type='OnlineClusterHook', extract_dataloader=_base_.gallery_dataloader, health_interval=5
    )
)
