_base_ = ['../_base_/layers.py', '../_base_/imagenet.py', '../_base_/runtime.py']

benchmark = dict(
    name='imagenet-linear',
    title='ImageNet, linear classifiers on 17 layers, pooled as in the official code of InvP',
    kind='training',
    metric='layers/best',
    data='imagenet',
    published={
        'InvP ResNet-50 800 epochs': 67.7,
        'InvP ResNet-50-MLP 800 epochs': 71.3,
        'InterCLR 200 epochs': 65.5,
        'InterCLR 1000 epochs': 69.6,
        'SeLa 400 epochs': 61.5,
        'random (InterCLR)': 13.7,
    },
)
