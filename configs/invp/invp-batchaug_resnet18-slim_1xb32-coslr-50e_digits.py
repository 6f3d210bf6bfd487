# InvP on the digits with augmentation of whole batches by kornia. Needs: pip install kornia
_base_ = 'invp_resnet18-slim_1xb32-coslr-50e_digits.py'

model = dict(
    data_preprocessor=dict(
        type='AugmentingDataPreprocessor',
        transforms=[
            dict(type='RandomAffine', degrees=10, translate=(0.1, 0.1), p=1.0),
            dict(
                type='RandomResizedCrop',
                size=(16, 16),
                scale=(0.5, 1.0),
                cropping_mode='resample',  # All images in one operation.
            ),
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, p=1.0),
        ],
    )
)

train_pipeline = [_base_.load_image, _base_.pack_inputs]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
