# The handwritten digits of scikit-learn, 8 x 8 pixels, resized to 16 x 16.
#   python tools/convert_dataset.py digits data/digits
_base_ = 'loaders.py'

data_root = 'data/digits/'
enlarge = dict(type='Resize', scale=(16, 16), backend='pillow')

train_pipeline = [
    _base_.load_image,
    enlarge,
    dict(type='mmcls.RandomCrop', crop_size=16, padding=2),
    _base_.pack_inputs,
]
test_pipeline = [_base_.load_image, enlarge, _base_.pack_inputs]

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    dataset=dict(data_root=data_root, data_prefix=dict(img_path='train'), pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(data_root=data_root, data_prefix=dict(img_path='test'), pipeline=test_pipeline),
)
