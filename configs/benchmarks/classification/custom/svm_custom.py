_base_ = '../_base_/custom.py'

benchmark = dict(
    name='custom-svm', title='own class folders, linear SVMs', options=dict(classifier='svm')
)
