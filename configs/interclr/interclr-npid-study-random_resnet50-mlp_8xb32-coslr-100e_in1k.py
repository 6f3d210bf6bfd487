# The study of the paper (section 5.2): 100 epochs, 4096 negatives, equal branch weights. This is
# its reference, online labels with random negatives and no margin; each other study changes one
# setting.
_base_ = 'interclr-npid_resnet50-mlp_8xb32-coslr-200e_in1k.py'

model = dict(
    intra_weight=0.5,
    head=dict(num_negatives=4096),
    branch=dict(num_negatives=4096, negatives='random', loss=dict(margin=0)),
)

param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=100, eta_min=3e-5, by_epoch=True, begin=0, end=100)
]
train_cfg = dict(max_epochs=100)
