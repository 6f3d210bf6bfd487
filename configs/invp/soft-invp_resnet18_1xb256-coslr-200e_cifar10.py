# Soft propagation with a weak teacher on CIFAR-10. All values are ours; neck and temperature were
# chosen on a small slice of it (benchmarks/arena).
_base_ = [
    '../_base_/models/invp_resnet18-cifar.py',
    '../_base_/datasets/cifar10_invp.py',
    '../_base_/schedules/sgd_coslr-200e_soft-invp.py',
    '../_base_/invp_runtime.py',
]

model = dict(
    type='SoftInvP',
    encoder_momentum=0.99,
    # Normalise the keys in parts of 32 images, so that query and key share no statistics.
    key_splits=8,
    neck=dict(hid_channels=None),
    head=dict(_delete_=True, type='SoftInvPHead', num_background=4096),
    memory=dict(num_neighbours=20, momentum=0),
)

query_views = [
    dict(type='RandomResizedCrop', size=32, scale=(0.2, 1.0)),
    dict(type='RandomHorizontalFlip', p=0.5),
    dict(
        type='RandomApply',
        transforms=[
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        ],
        p=0.8,
    ),
    dict(type='RandomGrayscale', p=0.2),
]
# The teacher's view is only cropped and flipped.
key_views = query_views[:2]
train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=query_views, key_transforms=key_views, num_views=2),
    _base_.pack_inputs,
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))

# A tenth of the epochs more than the warm-up; the graph of an untrained network leads nowhere.
default_hooks = dict(
    memory=dict(ramp_epochs=20),
    knn=dict(
        _base_.knn,
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
)

auto_scale_lr = dict(base_batch_size=256)
