_base_ = ['../_base_/finetune.py', '../_base_/digits.py', '../_base_/runtime.py']

model = dict(head=dict(num_classes=10))
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=20, by_epoch=True)]
train_cfg = dict(max_epochs=20, val_interval=1)

benchmark = dict(
    name='digits-finetune',
    title='handwritten digits, the whole network fine-tuned',
    kind='training',
    metric='accuracy/top1',
    data='digits',
)
