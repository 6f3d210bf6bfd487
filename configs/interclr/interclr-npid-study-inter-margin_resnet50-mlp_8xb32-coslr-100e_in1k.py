# Study of the inter margin: -0.5, the best one; sweep it with
#   --cfg-options model.branch.loss.margin=...
_base_ = 'interclr-npid-study-semi-hard_resnet50-mlp_8xb32-coslr-100e_in1k.py'

model = dict(branch=dict(loss=dict(margin=-0.5)))
