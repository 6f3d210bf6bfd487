# The twin without the graph: the target is the softmax of the key alone.
_base_ = 'soft-invp_resnet18_1xb256-coslr-200e_cifar10.py'

model = dict(head=dict(propagation=0.0))
