_base_ = ['../_base_/digits_frozen.py', '../_base_/frozen.py']

pool_size = 1
benchmark = dict(
    name='digits-knn',
    title='handwritten digits, weighted kNN on globally pooled features',
    kind='knn',
    data='digits',
    options=dict(k=20, temperature=0.07),
)
