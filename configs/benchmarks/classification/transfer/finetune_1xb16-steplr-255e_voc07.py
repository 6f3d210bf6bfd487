# VOC 2007, multi-label, 11-point mAP. The official code takes 80,000 steps of 16 images
# and halves the rate every 5,000: 255 and 16 epochs. Batch statistics stay those of pre-training.
_base_ = ['../_base_/finetune.py', '../_base_/voc07.py', '../_base_/runtime.py']

model = dict(
    backbone=dict(norm_eval=True),
    head=dict(
        type='mmcls.MultiLabelLinearClsHead',
        num_classes=20,
        loss=dict(type='mmcls.CrossEntropyLoss', use_sigmoid=True),
    ),
)
train_pipeline = [
    _base_.load_image,
    dict(type='mmcls.RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    _base_.pack_inputs,
]
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [dict(type='StepLR', step_size=16, gamma=0.5, by_epoch=True)]
train_cfg = dict(max_epochs=255)
val_evaluator = dict(_delete_=True, type='VOCMeanAveragePrecision', rule='11points')

benchmark = dict(
    name='transfer-voc07',
    title='VOC 2007, the whole network fine-tuned, 11-point mAP',
    kind='training',
    network='Res',
    metric='multi-label/mAP',
    data='voc2007',
    backbone=dict(norm_eval=True),
    published={'InvP ResNet-50-MLP 800 epochs': 85.4},
)
