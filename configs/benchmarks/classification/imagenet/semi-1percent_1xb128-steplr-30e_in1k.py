# Labels of 1 % of the images. The list is written by
#   python tools/prepare_data.py imagenet-1percent
_base_ = ['../_base_/semi.py', '../_base_/imagenet.py', '../_base_/runtime.py']

train_dataloader = dict(batch_size=128, dataset=dict(ann_file='meta/train_1percent.txt'))
val_evaluator = dict(topk=(1, 5))

benchmark = dict(
    name='imagenet-1percent',
    title='ImageNet, the whole network fine-tuned on 1 % of the labels, top-5',
    kind='training',
    metric='accuracy/top5',
    data='imagenet-1percent',
    published={
        'InvP ResNet-50 800 epochs': 76.7,
        'InvP ResNet-50-MLP 800 epochs': 78.2,
        'InterCLR 200 epochs': 66.3,
        'InterCLR 1000 epochs': 78.6,
    },
)
