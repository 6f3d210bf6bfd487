_base_ = 'svm_digits.py'

benchmark = dict(
    name='digits-lowshot',
    title='handwritten digits, linear SVMs on 1 to 96 positives, cost by the test set',
    kind='few_shot',
    options=dict(shots=(1, 2, 4, 8, 16, 32, 64, 96), samples=5, cost_selection='test'),
)
