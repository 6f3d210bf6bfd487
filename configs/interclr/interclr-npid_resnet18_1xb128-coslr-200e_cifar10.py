# InterCLR on CIFAR-10 on a memory bank. Not in the paper: network, batch and weight decay are those
# of InvP's official CIFAR recipe.
_base_ = [
    '../_base_/models/interclr-npid_resnet18-cifar.py',
    '../_base_/datasets/cifar10_invp.py',
    '../_base_/schedules/sgd_coslr-200e_interclr.py',
    '../_base_/interclr_runtime.py',
]

optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))

default_hooks = dict(
    clusters=dict(extract_dataloader=_base_.gallery_dataloader),
    knn=dict(
        _base_.knn,
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
)
auto_scale_lr = dict(base_batch_size=128)
