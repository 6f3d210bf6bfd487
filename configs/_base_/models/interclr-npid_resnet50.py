# InterCLR on a memory bank, the first version of the paper (arXiv:2008.11702): constants of its
# final model. One bank serves both branches; its length comes from the data set.
model = dict(
    type='InterCLR',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN')),
    neck=dict(type='ProjectionNeck', in_channels=2048, hid_channels=2048, out_channels=128),
    intra_weight=0.75,
    head=dict(
        type='BankMarginHead',
        num_negatives=16384,
        loss=dict(type='MarginNCELoss', temperature=0.1, margin=0),
    ),
    branch=dict(
        type='OnlineClusterBranch',
        num_negatives=16384,
        negatives='semi_hard',
        pool_ratio=0.1,
        loss=dict(type='MarginNCELoss', temperature=0.1, margin=-0.5),
        # momentum: weight of the old row; the paper's omega = 0.5 weighs the new one.
        memory=dict(type='ClusterMemory', num_clusters=10000, feat_dim=128, momentum=0.5),
    ),
)
