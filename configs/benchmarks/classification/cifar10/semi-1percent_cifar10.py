# Labels of 1 % of the images of each class, drawn by a seed.
_base_ = ['../_base_/semi.py', '../_base_/cifar10.py', '../_base_/runtime.py']

model = dict(head=dict(num_classes=10))
train_dataloader = dict(batch_size=16, dataset=dict(type='FewLabels', fraction=0.01))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=30, by_epoch=True)]
train_cfg = dict(max_epochs=30, val_interval=1)

benchmark = dict(
    name='cifar10-1percent',
    title='CIFAR-10 at 32 pixels, the whole network fine-tuned on 1 % of the labels',
    kind='training',
    metric='accuracy/top1',
    data='cifar10',
)
