# Labels of 10 % of the images of each class, drawn by a seed.
_base_ = ['../_base_/semi.py', '../_base_/cifar10.py', '../_base_/runtime.py']

model = dict(head=dict(num_classes=10))
train_dataloader = dict(batch_size=32, dataset=dict(type='FewLabels', fraction=0.1))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=30, by_epoch=True)]
train_cfg = dict(max_epochs=30, val_interval=1)

benchmark = dict(
    name='cifar10-10percent',
    title='CIFAR-10 at 32 pixels, the whole network fine-tuned on 10 % of the labels',
    kind='training',
    metric='accuracy/top1',
    data='cifar10',
)
