# Study of lambda (appendix C): 200 epochs at the settings of the first study. 0.75 is the best one;
# sweep it with
#   --cfg-options model.intra_weight=...
# where 1 is the intra branch alone and 0 the inter branch alone.
_base_ = 'interclr-npid_resnet50-mlp_8xb32-coslr-200e_in1k.py'

model = dict(
    intra_weight=0.75,
    head=dict(num_negatives=4096),
    branch=dict(num_negatives=4096, negatives='random', loss=dict(margin=0)),
)
