# SeLa with AlexNet on resized CIFAR-10 images by the official script.
_base_ = [
    '../_base_/models/sela_alexnet.py',
    '../_base_/datasets/cifar10_sela.py',
    '../_base_/schedules/sgd_steplr-400e_cifar.py',
    '../_base_/sela_runtime.py',
]

model = dict(
    # The deviations are those of the official code too.
    data_preprocessor=dict(mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255]),
    head=dict(num_classes=128, num_heads=10),
    memory=dict(num_classes=128, num_heads=10),
)

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
