# One view of each CIFAR-10 image by the official recipe. The images are written as folders by
#   python tools/convert_dataset.py cifar10 data/cifar10
_base_ = 'image_folders.py'

data_root = 'data/cifar10/'

train_views = [
    dict(type='RandomResizedCrop', size=32, scale=(0.2, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    dict(type='RandomGrayscale', p=0.2),
    # The official code does not flip. To flip, add
    #   dict(type='RandomHorizontalFlip', p=0.5),
]

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views),
    _base_.pack_inputs,
]
test_pipeline = [_base_.load_image, _base_.pack_inputs]

train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
gallery_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
query_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
