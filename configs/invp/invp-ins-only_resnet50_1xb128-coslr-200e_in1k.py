# Instance discrimination alone, with hard negatives: the baseline of the propagation.
_base_ = 'invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(head=dict(lambda_inv=0))
