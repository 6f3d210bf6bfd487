# The official code has 1000 outputs here as well; 205 are enough.
#   python tools/prepare_data.py places205
_base_ = ['../_base_/layers.py', '../_base_/views_224.py', '../_base_/runtime.py']

data_root = 'data/places205/'

model = dict(num_classes=205)
images = dict(
    data_root=data_root,
    data_prefix=dict(img_path='data/vision/torralba/deeplearning/images256'),
)
train_dataloader = dict(dataset=images)
val_dataloader = dict(dataset=dict(ann_file='meta/val.txt', **images))

benchmark = dict(
    name='places205-linear',
    title='Places205, linear classifiers on 17 layers, pooled as in the official code of InvP',
    kind='training',
    metric='layers/best',
    data='places205',
    published={
        'InvP ResNet-50 800 epochs': 52.6,
        'InvP ResNet-50-MLP 800 epochs': 53.5,
        'InterCLR 200 epochs': 52.2,
        'InterCLR 1000 epochs': 53.4,
        'random (InterCLR)': 16.6,
    },
)
