# Study of the intra margin: 0.35, the best one; sweep it with
#   --cfg-options model.head.loss.margin=...
_base_ = 'interclr-npid-study-semi-hard_resnet50-mlp_8xb32-coslr-100e_in1k.py'

model = dict(head=dict(loss=dict(margin=0.35)))
