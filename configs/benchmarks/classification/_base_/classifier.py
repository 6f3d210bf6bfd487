# A classifier of MMClassification on globally pooled features, the whole network trained.
model = dict(
    type='mmcls.ImageClassifier',
    backbone=dict(type='mmselfsup.ResNet', depth=50),
    neck=dict(type='mmcls.GlobalAveragePooling'),
    head=dict(
        type='mmcls.LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='mmcls.CrossEntropyLoss'),
    ),
    data_preprocessor=dict(
        type='mmcls.ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)

val_cfg = dict()
val_evaluator = dict(type='mmcls.Accuracy', topk=(1,))
