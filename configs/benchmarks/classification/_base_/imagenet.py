# python tools/prepare_data.py imagenet
_base_ = 'views_224.py'

data_root = 'data/imagenet/'

train_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img_path='train')))
val_dataloader = dict(
    dataset=dict(data_root=data_root, ann_file='meta/val.txt', data_prefix=dict(img_path='val'))
)
