_base_ = ['../_base_/finetune.py', '../_base_/transfer.py', '../_base_/runtime.py']

data_root = 'data/cifar100/'

model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img_path='train')))
val_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img_path='test')))

benchmark = dict(
    name='transfer-cifar100',
    title='CIFAR-100 at 224 pixels, the whole network fine-tuned',
    kind='training',
    metric='accuracy/top1',
    data='cifar100',
    published={'InvP ResNet-50-MLP 800 epochs': 84.7},
)
