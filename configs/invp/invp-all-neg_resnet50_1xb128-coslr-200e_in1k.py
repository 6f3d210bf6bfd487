# Table 5, "Without hard negative": the background of both losses is the whole bank.
_base_ = 'invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(head=dict(loss=dict(hard_neg=False)))
