# Faster R-CNN R50-C4 on your own images in VOC layout, one GPU:
#   data/custom_voc/JPEGImages/NAME.jpg
#   data/custom_voc/Annotations/NAME.xml
#   data/custom_voc/ImageSets/Main/{trainval,test}.txt, one NAME per line
# Copy the file and set the folder and the classes. Batch and learning rate are those of InvP's
# official code; the length, 24000 iterations, is our choice.
_base_ = '../voc0712/faster-rcnn_r50-c4_ms-96k_voc0712.py'

data_root = 'data/custom_voc/'
classes = ('first', 'second')

dataset = dict(
    data_root=data_root, data_prefix=dict(sub_data_root=''), metainfo=dict(classes=classes)
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VOCDataset',
        _scope_='mmdet',  # Also where this file is inherited as mmselfsup_invp::...
        ann_file='ImageSets/Main/trainval.txt',
        # Boxes without width or height, as in hand-made data sets, would make the loss NaN.
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=1),
        pipeline=_base_.train_pipeline,
        **dataset,
    )
)
val_dataloader = dict(dataset=dict(ann_file='ImageSets/Main/test.txt', **dataset))
test_dataloader = val_dataloader
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))

# The area under the curve, as in VOC from 2010 on.
val_evaluator = dict(eval_mode='area')
test_evaluator = val_evaluator

train_cfg = dict(max_iters=24000, val_interval=2000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=400),
    dict(type='MultiStepLR', by_epoch=False, milestones=[18000, 22000], gamma=0.1, end=24000),
]
default_hooks = dict(checkpoint=dict(interval=2000))

benchmark = dict(
    name='custom-detection',
    title='your own set in VOC layout, Faster R-CNN R50-C4, AP50',
    data='custom-voc',
    published=dict(_delete_=True),
)
