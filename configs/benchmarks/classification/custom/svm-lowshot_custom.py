_base_ = '../_base_/custom.py'

benchmark = dict(
    name='custom-lowshot',
    title='own class folders, linear SVMs on 1 to 16 images of each class',
    options=dict(classifier='svm', shots=(1, 2, 4, 8, 16)),
)
