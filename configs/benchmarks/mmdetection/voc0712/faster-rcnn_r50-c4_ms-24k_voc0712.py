# Faster R-CNN R50-C4 trained on VOC07+12 trainval and tested on VOC07 test: the recipe of MoCo that
# InvP (Table 4) and InterCLR (Table 3) follow, for 8 GPUs with 2 images each. The pre-trained
# weights are used in two places: layers 1 to 3 are the backbone, layer 4 is the shared head. Set
# the checkpoint for both, or let `run_detection` do so:
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
#   model.roi_head.shared_head.init_cfg.checkpoint=CHECKPOINT
#
# It has the parent of MMSelfSup 1.0.0's config of the same name. That one sets mean and std of the
# pixels outside `model`, where they have no effect, so that its detectors see BGR pixels, and its
# shared head loads a Caffe network by default.
_base_ = 'mmdet::pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py'

custom_imports = dict(
    imports=['mmselfsup_invp', 'mmselfsup.models.utils.res_layer_extra_norm'],
    allow_failed_imports=False,
)

# Nothing is frozen. SyncBN is plain batch normalisation in a run of one process, also on a CPU.
norm_cfg = dict(type='SyncBN', requires_grad=True)
pretrained = dict(type='Pretrained', checkpoint='checkpoint.pth', prefix='backbone.')
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False, style='pytorch', init_cfg=pretrained
    ),
    roi_head=dict(
        shared_head=dict(
            type='ResLayerExtraNorm',
            norm_cfg=norm_cfg,
            norm_eval=False,
            style='pytorch',
            init_cfg=pretrained,
        )
    ),
)

# mmdet names the types of VOC2007 and VOC2012 differently; ignoring the type lets it join them.
train_dataloader = dict(dataset=dict(ignore_keys=['dataset_type']))

# As Detectron2's evaluator of VOC07: 11 points; AP is the mean over ten thresholds.
val_evaluator = dict(iou_thrs=[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
test_evaluator = val_evaluator

# Detectron2 does not decay the parameters of normalisation layers (WEIGHT_DECAY_NORM = 0).
optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.0))
# The learning rate, 0.02, is for 16 images per step; `run_detection` refuses another batch.
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_cfg = dict(max_iters=24000, val_interval=2000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=False, milestones=[18000, 22000], gamma=0.1, end=24000),
]

default_hooks = dict(
    checkpoint=dict(interval=2000, max_keep_ckpts=1),
    # Stops a run whose backbone does not have the weights of the checkpoint.
    backbone=dict(type='mmselfsup.CheckBackboneHook'),
)
# InterCLR reports the mean over 5 runs: seeds 0 to 4.
randomness = dict(seed=0)

benchmark = dict(
    name='voc0712-detection',
    title='VOC 2007+2012 detection, Faster R-CNN R50-C4, 24k iterations of 16 images, AP50',
    kind='detection',
    metric='AP50',
    data=['voc2007', 'voc2012'],
    published={
        'InvP 800 epochs': 81.8,
        'InterCLR 200 epochs': 81.8,
        'MoCo': 81.4,
        'supervised': 80.8,
        'random (InterCLR)': 60.2,
    },
)
