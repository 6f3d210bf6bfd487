# InvP of the paper with the MLP neck, by the command in the official README.
_base_ = [
    '../_base_/models/invp_resnet50-mlp.py',
    '../_base_/datasets/imagenet_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/invp_runtime.py',
]

# The official validation: weighted kNN with the bank as gallery.
default_hooks = dict(
    knn=dict(
        _base_.knn,
        gallery='bank',
        interval=10,
        query_dataloader=_base_.query_dataloader,
    )
)
auto_scale_lr = dict(base_batch_size=128)
