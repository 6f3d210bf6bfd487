# InvP of the paper with the linear neck. The paper gives neither schedule nor weight decay for it;
# the official code steps at epochs 400, 600 and 700 by default, and a folder name in it contains
# weight decay 1e-4. Here it is trained like the MLP neck.
_base_ = [
    '../_base_/models/invp_resnet50.py',
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
