# InvP on CIFAR-10 by the official recipe.
_base_ = [
    '../_base_/models/invp_resnet18-cifar.py',
    '../_base_/datasets/cifar10_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/invp_runtime.py',
]

optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

default_hooks = dict(
    knn=dict(
        _base_.knn,
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    )
)
auto_scale_lr = dict(base_batch_size=128)
