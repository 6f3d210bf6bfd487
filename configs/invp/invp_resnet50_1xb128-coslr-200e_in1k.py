# InvP of Table 5, the reference of the ablations: 200 epochs. The ramp keeps its 30 epochs.
_base_ = 'invp_resnet50_1xb128-coslr-800e_in1k.py'

param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, begin=0, end=200)]
train_cfg = dict(max_epochs=200)
