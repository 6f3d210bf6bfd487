_base_ = ['../_base_/finetune.py', '../_base_/transfer.py', '../_base_/runtime.py']

data_root = 'data/pets/'

model = dict(head=dict(num_classes=37))
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
val_evaluator = dict(_delete_=True, type='mmcls.SingleLabelMetric', items=('recall',))

benchmark = dict(
    name='transfer-pets',
    title='Oxford-IIIT Pets, the whole network fine-tuned, mean per class',
    kind='training',
    metric='single-label/recall',
    data='pets',
    published={'InvP ResNet-50-MLP 800 epochs': 89.4},
)
