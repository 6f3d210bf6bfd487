# Labels of 10 % of the images. The list is written by
#   python tools/prepare_data.py imagenet-10percent
_base_ = ['../_base_/semi.py', '../_base_/imagenet.py', '../_base_/runtime.py']

train_dataloader = dict(batch_size=128, dataset=dict(ann_file='meta/train_10percent.txt'))
val_evaluator = dict(topk=(1, 5))

benchmark = dict(
    name='imagenet-10percent',
    title='ImageNet, the whole network fine-tuned on 10 % of the labels, top-5',
    kind='training',
    metric='accuracy/top5',
    data='imagenet-10percent',
    published={
        'InvP ResNet-50 800 epochs': 87.2,
        'InvP ResNet-50-MLP 800 epochs': 88.7,
        'InterCLR 200 epochs': 84.5,
        'InterCLR 1000 epochs': 88.8,
    },
)
