# The cost of each class is selected by cross-validation, without the labels of the test set; the
# published protocol selects the best on the test set.
_base_ = 'svm-lowshot_voc07.py'

benchmark = dict(
    name='voc07-lowshot-cv',
    title='VOC 2007 classification, linear SVMs on 1 to 96 positives, cost by cross-validation',
    options=dict(cost_selection='cross_validation'),
    published=dict(_delete_=True),
)
