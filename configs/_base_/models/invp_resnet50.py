# InvP with ResNet-50 and the linear neck; every constant from the paper (arXiv:2010.11694) unless
# the comment names the official code.
model = dict(
    type='InvP',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN')),
    neck=dict(type='ProjectionNeck', in_channels=2048, out_channels=128),
    head=dict(
        type='InvPHead',
        positive='propagate',
        hops=3,
        lambda_inv=0.6,
        loss=dict(type='HardSamplingLoss', temperature=0.07, num_background=4096, num_hard=50),
    ),
    # momentum: weight of the old row, from the official code. The length comes from the data set.
    memory=dict(type='PropagationMemory', feat_dim=128, num_neighbours=4, momentum=0.5),
)
