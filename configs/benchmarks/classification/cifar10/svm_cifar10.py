# Four costs, because all nineteen of VOC take hours on data sets of this kind.
_base_ = ['../_base_/cifar10_frozen.py', '../_base_/frozen.py']

benchmark = dict(
    name='cifar10-svm',
    title='CIFAR-10 at 32 pixels, linear SVMs on frozen features',
    kind='svm',
    metric='mAP',
    data='cifar10',
    options=dict(costs=(0.01, 0.1, 1.0, 10.0)),
)
