# SeLa with ResNet-50, the network that detection uses: resnetv1 of the official code, whose default
# is a pre-activation ResNet-50, resnetv2. Classes and heads are those of the
# official script.
model = dict(
    type='SeLa',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN'), zero_init_residual=False),
    neck=dict(type='FullyConnectedNeck', in_channels=2048),
    head=dict(type='SelfLabelHead', in_channels=2048, num_classes=3000, num_heads=10),
    # The length comes from the data set.
    memory=dict(type='SelfLabelMemory', num_classes=3000, num_heads=10),
)
