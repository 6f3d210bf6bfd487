# InterCLR on a momentum encoder with a queue: constants of MMSelfSup 0.x, InterCLRMoCo.
_base_ = 'interclr-npid_resnet50.py'

model = dict(
    type='MomentumInterCLR',
    encoder_momentum=0.999,
    queue=dict(type='KeyQueue', length=65536, feat_dim=128),
    head=dict(
        _delete_=True,
        type='QueueMarginHead',
        loss=dict(type='MarginNCELoss', temperature=0.2, margin=0),
    ),
    # A row is the latest key itself, not an average.
    branch=dict(loss=dict(temperature=0.2), memory=dict(momentum=0)),
)
