# BYOL (https://arxiv.org/abs/2006.07733), its neck and momentum in proportion to the network and to
# the number of iterations.
_base_ = 'base.py'

network_passes = 8

model = dict(
    type='BYOL',
    base_momentum=0.97,
    data_preprocessor=_base_.two_views,
    backbone=_base_.backbone,
    neck=dict(
        type='NonLinearNeck',
        in_channels=_base_.channels,
        hid_channels=512,
        out_channels=128,
        num_layers=2,
        with_bias=True,
        with_last_bn=False,
        with_avg_pool=True,
    ),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(
            type='NonLinearNeck',
            in_channels=128,
            hid_channels=512,
            out_channels=128,
            num_layers=2,
            with_bias=True,
            with_last_bn=False,
            with_avg_pool=False,
        ),
        loss=dict(type='CosineSimilarityLoss'),
    ),
)
