# InvP on CIFAR-10 with the inter-image branch of InterCLR, as an example of a branch on another
# algorithm. Not in either paper; the branch is that of the InterCLR config.
_base_ = 'invp_resnet18_1xb128-coslr-800e_cifar10.py'

model = dict(
    branch=dict(
        type='OnlineClusterBranch',
        num_negatives=4096,
        negatives='semi_hard',
        loss=dict(type='MarginNCELoss', temperature=0.2, margin=-0.5),
        memory=dict(type='ClusterMemory', num_clusters=400, feat_dim=128, momentum=0.5),
    ),
    branch_weight=0.25,
)

default_hooks = dict(
    clusters=dict(type='OnlineClusterHook', extract_dataloader=_base_.gallery_dataloader)
)
