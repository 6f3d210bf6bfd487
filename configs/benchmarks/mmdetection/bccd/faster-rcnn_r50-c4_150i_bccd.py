# Faster R-CNN R50-C4 on BCCD, 364 photographs of blood cells in VOC layout, in minutes on a CPU:
# half the size, few proposals, and a shared head that sees 8 x 8 cells of each instead of 14 x 14.
# It shows that the tools work; its results are not comparable with published ones.
_base_ = '../custom/faster-rcnn_r50-c4_ms-24k_custom-voc.py'

data_root = 'data/bccd/'
classes = ('RBC', 'WBC', 'Platelets')
scale = (320, 240)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=2, num_workers=1, dataset=dict(pipeline=train_pipeline, **dataset)
)
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader

model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(output_size=8)),
        bbox_head=dict(num_classes=len(classes), roi_feat_size=4),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=200), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=100)),
)

auto_scale_lr = dict(base_batch_size=2)
train_cfg = dict(max_iters=150, val_interval=150)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=20),
    dict(type='MultiStepLR', by_epoch=False, milestones=[110, 135], gamma=0.1, end=150),
]
default_hooks = dict(checkpoint=dict(interval=50), logger=dict(interval=10))

benchmark = dict(
    name='bccd-detection',
    title='BCCD detection, Faster R-CNN R50-C4 made small for a CPU, AP50',
    data='bccd',
)
