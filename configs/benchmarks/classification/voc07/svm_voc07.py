_base_ = ['../_base_/voc07_frozen.py', '../_base_/frozen.py']

benchmark = dict(
    name='voc07-svm',
    title='VOC 2007 classification, linear SVMs on frozen features',
    kind='svm',
    metric='mAP',
    data='voc2007',
    published={
        'InvP ResNet-50 800 epochs': 84.2,
        'InvP ResNet-50-MLP 800 epochs': 84.7,
        'InterCLR 200 epochs': 82.6,
        'InterCLR 1000 epochs': 85.7,
        'random (InterCLR)': 9.6,
    },
)
