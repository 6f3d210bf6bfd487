# Its twin without the graph: the loss between the views alone.
_base_ = 'multi-view.py'

model = dict(head=dict(lambda_inv=0.0))
