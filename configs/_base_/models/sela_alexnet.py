# SeLa with AlexNet: batch normalisation, no Sobel filters, weights drawn as in the official code.
normal = dict(type='Normal', layer='Linear', std=0.01)

model = dict(
    type='SeLa',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type='AlexNetBN'),
    neck=dict(
        type='FullyConnectedNeck',
        in_channels=256,
        hid_channels=(4096, 4096),
        pool_size=6,
        dropout=0.5,
        init_cfg=normal,
    ),
    head=dict(
        type='SelfLabelHead', in_channels=4096, num_classes=3000, num_heads=10, init_cfg=normal
    ),
    memory=dict(type='SelfLabelMemory', num_classes=3000, num_heads=10),
)
