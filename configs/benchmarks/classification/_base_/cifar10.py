# CIFAR-10 at its original size, 32 x 32, for networks with a stem for small images.
#   python tools/prepare_data.py cifar10
_base_ = 'loaders.py'

data_root = 'data/cifar10/'

train_pipeline = [
    _base_.load_image,
    dict(type='mmcls.RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5),
    _base_.pack_inputs,
]
test_pipeline = [_base_.load_image, _base_.pack_inputs]

train_dataloader = dict(
    dataset=dict(data_root=data_root, data_prefix=dict(img_path='train'), pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, data_prefix=dict(img_path='test'), pipeline=test_pipeline)
)
