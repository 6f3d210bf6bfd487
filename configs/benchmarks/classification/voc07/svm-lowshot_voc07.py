_base_ = 'svm_voc07.py'

benchmark = dict(
    name='voc07-lowshot',
    title='VOC 2007 classification, linear SVMs on 1 to 96 positives, cost by the test set',
    kind='few_shot',
    options=dict(shots=(1, 2, 4, 8, 16, 32, 64, 96), samples=5, cost_selection='test'),
    published=dict(
        _delete_=True,
        **{'InterCLR 200 epochs': 65.5, 'InterCLR 1000 epochs': 70.0, 'random (InterCLR)': 9.0},
    ),
)
