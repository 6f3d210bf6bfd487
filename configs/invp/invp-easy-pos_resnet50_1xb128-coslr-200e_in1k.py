# Table 5, "Without hard positive", as in the official code: the most similar positives instead of
# the least similar ones.
_base_ = 'invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(head=dict(loss=dict(hard_pos='easy')))
