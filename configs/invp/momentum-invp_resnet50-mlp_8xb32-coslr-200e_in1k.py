# InvP on a queue of keys from a momentum encoder, which the paper suggests as an alternative to its
# bank but does not evaluate: all values here are ours. Batch, learning rate, length of the queue
# and momentum are those of MoCo v2; the objective is that of the MLP neck.
_base_ = [
    '../_base_/models/invp_resnet50-mlp.py',
    '../_base_/datasets/imagenet_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/invp_runtime.py',
]

model = dict(
    type='MomentumInvP',
    encoder_momentum=0.999,
    memory=dict(
        _delete_=True, type='PropagationQueue', length=65536, feat_dim=128, num_neighbours=4
    ),
)

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=_base_.train_views, num_views=2),
    _base_.pack_inputs,
]
train_dataloader = dict(batch_size=32, num_workers=4, dataset=dict(pipeline=train_pipeline))

param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, begin=0, end=200)]
train_cfg = dict(max_epochs=200)

# No kNN: a queue cannot be the gallery, and features of all training images take long to extract.
auto_scale_lr = dict(base_batch_size=256)
