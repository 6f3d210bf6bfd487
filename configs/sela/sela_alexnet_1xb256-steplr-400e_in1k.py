# SeLa with AlexNet on ImageNet by the official script.
_base_ = [
    '../_base_/models/sela_alexnet.py',
    '../_base_/datasets/imagenet_sela.py',
    '../_base_/schedules/sgd_steplr-400e.py',
    '../_base_/sela_runtime.py',
]

randomness = dict(seed=42)

# No kNN: features of all training images take long to extract. The log contains the agreement
# of the labels with the true classes.
auto_scale_lr = dict(base_batch_size=256)
