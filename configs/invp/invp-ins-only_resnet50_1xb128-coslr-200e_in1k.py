# Instance discrimination alone, with hard negatives: what propagation is to be measured against.
_base_ = 'invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(head=dict(lambda_inv=0))
