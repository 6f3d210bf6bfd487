_base_ = ['../_base_/cifar10_frozen.py', '../_base_/frozen.py']

pool_size = 1
benchmark = dict(
    name='cifar10-similarity',
    title='CIFAR-10, similarity to the nearest images of a class and of others',
    kind='similarity',
    metric='auroc',
    data='cifar10',
)
