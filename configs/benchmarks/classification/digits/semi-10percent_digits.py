# Labels of 10 % of the images of each class, drawn by a seed.
_base_ = ['../_base_/semi.py', '../_base_/digits.py', '../_base_/runtime.py']

model = dict(head=dict(num_classes=10))
train_dataloader = dict(batch_size=32, dataset=dict(type='FewLabels', fraction=0.1))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=20, by_epoch=True)]
train_cfg = dict(max_epochs=20, val_interval=1)

benchmark = dict(
    name='digits-10percent',
    title='handwritten digits, the whole network fine-tuned on 10 % of the labels',
    kind='training',
    metric='accuracy/top1',
    data='digits',
)
