# InterCLR on a momentum encoder with a queue, 200 epochs: the variant of MMSelfSup 0.x (not in
# 1.x) with its constants. Two views by MoCo v2's recipe. As in our other configs, but not there,
# clusters are assigned by Euclidean distance (theirs: model.branch.memory.metric='dot') and
# repaired in every tenth iteration (default_hooks.clusters.repair_interval=1).
_base_ = [
    '../_base_/models/interclr-moco_resnet50.py',
    '../_base_/datasets/imagenet_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/interclr_runtime.py',
]

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=_base_.train_views, num_views=2),
    _base_.pack_inputs,
]
# drop_last: shuffling the batches of all processes needs batches of equal size.
train_dataloader = dict(
    batch_size=32, num_workers=4, drop_last=True, dataset=dict(pipeline=train_pipeline)
)

param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, begin=0, end=200)]
train_cfg = dict(max_epochs=200)

default_hooks = dict(clusters=dict(extract_dataloader=_base_.gallery_dataloader))
auto_scale_lr = dict(base_batch_size=256)
