_base_ = ['../_base_/finetune.py', '../_base_/transfer.py', '../_base_/runtime.py']

data_root = 'data/cifar10/'

model = dict(head=dict(num_classes=10))
train_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img_path='train')))
val_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img_path='test')))

benchmark = dict(
    name='transfer-cifar10',
    title='CIFAR-10 at 224 pixels, the whole network fine-tuned',
    kind='training',
    metric='accuracy/top1',
    data='cifar10',
    published={'InvP ResNet-50-MLP 800 epochs': 97.9},
)
