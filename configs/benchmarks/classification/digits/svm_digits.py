# Four costs, because all nineteen of VOC take hours on data sets of this kind.
_base_ = ['../_base_/digits_frozen.py', '../_base_/frozen.py']

benchmark = dict(
    name='digits-svm',
    title='handwritten digits, linear SVMs on frozen features',
    kind='svm',
    metric='mAP',
    data='digits',
    options=dict(costs=(0.01, 0.1, 1.0, 10.0)),
)
