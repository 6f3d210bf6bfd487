# InterCLR on a memory bank with the CIFAR network of InvP: ResNet-18 with a 3x3 stem, MLP neck. The
# paper has no CIFAR run. As on ImageNet, a cluster has about 128 images.
model = dict(
    type='InterCLR',
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], bgr_to_rgb=True
    ),
    backbone=dict(
        type='mmcls.ResNet_CIFAR',
        depth=18,
        num_stages=4,
        out_indices=(3,),
        zero_init_residual=False,
    ),
    neck=dict(type='ProjectionNeck', in_channels=512, hid_channels=512, out_channels=128),
    intra_weight=0.75,
    head=dict(
        type='BankMarginHead',
        num_negatives=4096,
        loss=dict(type='MarginNCELoss', temperature=0.1, margin=0),
    ),
    branch=dict(
        type='OnlineClusterBranch',
        num_negatives=4096,
        negatives='semi_hard',
        pool_ratio=0.1,
        loss=dict(type='MarginNCELoss', temperature=0.1, margin=-0.5),
        memory=dict(type='ClusterMemory', num_clusters=400, feat_dim=128, momentum=0.5),
    ),
)
