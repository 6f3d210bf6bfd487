# Cars use smaller crops than the other data sets.
_base_ = ['../_base_/finetune.py', '../_base_/transfer.py', '../_base_/runtime.py']

data_root = 'data/cars/'
train_pipeline = [
    _base_.load_image,
    dict(type='mmcls.RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    _base_.pack_inputs,
]

model = dict(head=dict(num_classes=196))
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root))

benchmark = dict(
    name='transfer-cars',
    title='Stanford Cars, the whole network fine-tuned',
    kind='training',
    metric='accuracy/top1',
    data='cars',
    published={'InvP ResNet-50-MLP 800 epochs': 90.3},
)
