_base_ = ['../_base_/digits_frozen.py', '../_base_/frozen.py']

pool_size = 1
benchmark = dict(
    name='digits-similarity',
    title='handwritten digits, similarity to the nearest images of a class and of others',
    kind='similarity',
    metric='auroc',
    data='digits',
)
