# Table 5, "Without hard negative": both losses compare with the whole bank, not the 4096 nearest.
_base_ = 'invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(head=dict(loss=dict(hard_neg=False)))
