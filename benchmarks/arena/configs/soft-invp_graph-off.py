# Its twin without the graph: the relations of the key alone.
_base_ = 'soft-invp.py'

model = dict(head=dict(propagation=0.0))
