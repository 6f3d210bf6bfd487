_base_ = '../_base_/custom.py'

benchmark = dict(
    name='custom-knn',
    title='own class folders, weighted kNN',
    options=dict(classifier='knn', settings=dict(k=20, temperature=0.07)),
)
