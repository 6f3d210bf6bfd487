# MMSelfSup's ODC with its own constants (arXiv:2006.10645), on the memory of this package.
model = dict(
    type='ODC',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN')),
    neck=dict(
        type='ODCNeck',
        in_channels=2048,
        hid_channels=512,
        out_channels=256,
        with_avg_pool=True,
        norm_cfg=dict(type='BN1d'),  # MMSelfSup's SyncBN needs CUDA
    ),
    head=dict(
        type='ClsHead',
        loss=dict(type='mmcls.CrossEntropyLoss'),
        with_avg_pool=False,
        in_channels=256,
        num_classes=10000,
    ),
    memory_bank=dict(type='ODCClusterMemory', feat_dim=256, num_classes=10000, momentum=0.5),
)
