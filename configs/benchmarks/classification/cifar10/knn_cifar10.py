_base_ = ['../_base_/cifar10_frozen.py', '../_base_/frozen.py']

pool_size = 1
benchmark = dict(
    name='cifar10-knn',
    title='CIFAR-10 at 32 pixels, weighted kNN on globally pooled features',
    kind='knn',
    data='cifar10',
    options=dict(k=200, temperature=0.07),
)
