# SeLa with the ResNet-18 for small images: a 3x3 stem and no max-pooling. Not in the paper.
model = dict(
    type='SeLa',
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
    neck=dict(type='FullyConnectedNeck', in_channels=512),
    head=dict(type='SelfLabelHead', in_channels=512, num_classes=128, num_heads=10),
    memory=dict(type='SelfLabelMemory', num_classes=128, num_heads=10),
)
