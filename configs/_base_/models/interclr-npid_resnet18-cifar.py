# InterCLR on a memory bank with the CIFAR network of InvP: ResNet-18 with a 3x3 stem, MLP neck. The
# paper has no CIFAR run. As on ImageNet, a cluster has about 128 images.
_base_ = 'interclr-npid_resnet50.py'

model = dict(
    data_preprocessor=dict(mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255]),
    backbone=dict(
        _delete_=True,
        type='mmcls.ResNet_CIFAR',
        depth=18,
        num_stages=4,
        out_indices=(3,),
        zero_init_residual=False,
    ),
    neck=dict(in_channels=512, hid_channels=512),
    head=dict(num_negatives=4096),
    branch=dict(num_negatives=4096, memory=dict(num_clusters=400)),
)
