# Soft propagation with a weak teacher on CIFAR-10. All values are ours; neck and temperature were
# chosen on a small slice of it (benchmarks/arena).
_base_ = [
    '../_base_/models/invp_resnet18-cifar.py',
    '../_base_/datasets/cifar10_simclr.py',
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

# The teacher's view is only cropped and flipped.
key_views = _base_.train_views[:2]
train_pipeline = [
    _base_.load_image,
    dict(
        type='AugmentedViews', transforms=_base_.train_views, key_transforms=key_views, num_views=2
    ),
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
