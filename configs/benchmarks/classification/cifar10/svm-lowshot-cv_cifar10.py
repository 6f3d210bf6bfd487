# The cost of each class is selected by cross-validation, without the labels of the test set; the
# published protocol selects the best on the test set.
_base_ = 'svm-lowshot_cifar10.py'

benchmark = dict(
    name='cifar10-lowshot-cv',
    title='CIFAR-10 at 32 pixels, linear SVMs on 1 to 96 positives, cost by cross-validation',
    options=dict(cost_selection='cross_validation'),
)
