# Table 5, "Without hard positive", as in the text of section 3.2: all of N(i) are positives.
_base_ = 'invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(head=dict(loss=dict(hard_pos='all')))
