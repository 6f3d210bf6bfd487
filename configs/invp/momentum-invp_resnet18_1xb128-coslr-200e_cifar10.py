# InvP with two views of an image: the bank holds its latest key, from a momentum encoder, and the
# instance loss compares the views of the same step. Not in the paper; the values that differ from
# the config it inherits are ours.
_base_ = 'invp_resnet18_1xb128-coslr-800e_cifar10.py'

model = dict(
    type='MomentumInvP',
    # For epochs of 391 iterations; MoCo's 0.999 is for the longer epochs of ImageNet.
    encoder_momentum=0.99,
    # A row is the key itself, not an average.
    memory=dict(momentum=0),
)

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=_base_.train_views, num_views=2),
    _base_.pack_inputs,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, begin=0, end=200)]
train_cfg = dict(max_epochs=200)
