# InvP on CIFAR-10 with augmentation of whole batches by kornia, on the device of the model. The
# workers only read the images. Needs: pip install kornia
_base_ = 'invp_resnet18_1xb128-coslr-800e_cifar10.py'

model = dict(
    data_preprocessor=dict(
        type='AugmentingDataPreprocessor',
        transforms=[
            dict(
                type='RandomResizedCrop',
                size=(32, 32),
                scale=(0.2, 1.0),
                cropping_mode='resample',  # All images in one operation.
            ),
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, p=1.0),
            dict(type='RandomGrayscale', p=0.2),
        ],
    )
)

train_pipeline = [_base_.load_image, _base_.pack_inputs]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
