# SeLa on CIFAR-10 at its original size with a ResNet-18, which needs less computation than AlexNet
# on resized images. Not in the paper; the rest is the recipe of the official script.
_base_ = [
    '../_base_/models/sela_resnet18-cifar.py',
    '../_base_/datasets/cifar10_invp.py',
    '../_base_/schedules/sgd_steplr-400e_cifar.py',
    '../_base_/sela_runtime.py',
]

train_views = [
    dict(type='RandomResizedCrop', size=32, scale=(0.2, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    dict(type='RandomGrayscale', p=0.2),
    dict(type='RandomHorizontalFlip', p=0.5),
]
train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views),
    _base_.pack_inputs,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

default_hooks = dict(
    # About one event per epoch, each for one head.
    self_label=dict(num_events=400, spacing='linear', heads='rotate', lambd=10.0),
    knn=dict(
        _base_.knn,
        gallery='backbone',
        k=10,
        temperature=0.1,
        query_dataloader=_base_.query_dataloader,
        gallery_dataloader=_base_.gallery_dataloader,
    ),
)

randomness = dict(seed=2)
auto_scale_lr = dict(base_batch_size=128)
