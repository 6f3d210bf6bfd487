# InterCLR on a momentum encoder with a queue: constants of MMSelfSup 0.x, InterCLRMoCo.
model = dict(
    type='MomentumInterCLR',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN')),
    neck=dict(type='ProjectionNeck', in_channels=2048, hid_channels=2048, out_channels=128),
    encoder_momentum=0.999,
    queue=dict(type='KeyQueue', length=65536, feat_dim=128),
    intra_weight=0.75,
    head=dict(type='QueueMarginHead', loss=dict(type='MarginNCELoss', temperature=0.2, margin=0)),
    branch=dict(
        type='OnlineClusterBranch',
        num_negatives=16384,
        negatives='semi_hard',
        pool_ratio=0.1,
        loss=dict(type='MarginNCELoss', temperature=0.2, margin=-0.5),
        # A row is the latest key itself, not an average.
        memory=dict(type='ClusterMemory', num_clusters=10000, feat_dim=128, momentum=0),
    ),
)
