# InvP with the official CIFAR network: ResNet-18 with a 3x3 stem and no max-pooling, MLP neck.
model = dict(
    type='InvP',
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
    head=dict(
        type='InvPHead',
        positive='propagate',
        hops=3,
        lambda_inv=0.6,
        loss=dict(type='HardSamplingLoss', temperature=0.2, num_background=4096, num_hard=20),
    ),
    memory=dict(type='PropagationMemory', feat_dim=128, num_neighbours=4, momentum=0.5),
)
