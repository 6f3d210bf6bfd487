_base_ = '../_base_/custom.py'

benchmark = dict(
    name='custom-linear',
    title='own class folders, logistic regression',
    options=dict(classifier='logistic'),
)
