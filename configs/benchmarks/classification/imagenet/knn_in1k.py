_base_ = '../_base_/imagenet_frozen.py'

benchmark = dict(
    name='imagenet-knn',
    title='ImageNet, weighted kNN on globally pooled features',
    kind='knn',
    data='imagenet',
    options=dict(k=200, temperature=0.07),
)
