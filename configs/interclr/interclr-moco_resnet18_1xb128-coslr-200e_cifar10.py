# InterCLR on CIFAR-10 on a momentum encoder with a queue. Not in the paper: the values that differ
# from the config it inherits are those of MMSelfSup 0.x, scaled to 50,000 images.
_base_ = 'interclr-npid_resnet18_1xb128-coslr-200e_cifar10.py'

model = dict(
    type='MomentumInterCLR',
    # For epochs of 391 iterations; MoCo's 0.999 is for the longer epochs of ImageNet.
    encoder_momentum=0.99,
    queue=dict(type='KeyQueue', length=4096, feat_dim=128),
    head=dict(
        _delete_=True,
        type='QueueMarginHead',
        loss=dict(type='MarginNCELoss', temperature=0.2, margin=0),
    ),
    # A row is the key itself, not an average.
    branch=dict(loss=dict(temperature=0.2), memory=dict(momentum=0)),
)

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=_base_.train_views, num_views=2),
    _base_.pack_inputs,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
