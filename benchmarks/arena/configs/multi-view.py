# InvP on four views of each image at a time. A step has as many views as one of SimCLR with 64
# images.
_base_ = 'invp.py'

network_passes = 12

model = dict(
    type='MultiViewInvP',
    data_preprocessor=dict(_base_.one_view, views=[_base_.strong_view] * 4),
    head=dict(lambda_ins=0.0),
)
train_dataloader = dict(batch_size=32)
