# The handwritten digits of scikit-learn, 8 x 8 pixels, resized to 16 x 16. The images are written
# as folders by
#   python tools/convert_dataset.py digits data/digits
_base_ = 'image_folders.py'

data_root = 'data/digits/'

train_views = [
    dict(type='RandomAffine', degrees=10, translate=(0.1, 0.1)),
    dict(type='RandomResizedCrop', size=16, scale=(0.5, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4),
]
test_views = [dict(type='Resize', size=16)]

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=train_views),
    _base_.pack_inputs,
]
test_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=test_views),
    _base_.pack_inputs,
]

train_dataloader = dict(
    batch_size=32, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
gallery_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root, pipeline=test_pipeline))
query_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root, pipeline=test_pipeline))
knn = dict(k=20)  # Of 1,438 images.
