# InvP on ImageNet with whole batches augmented on the device of the model. The workers decode the
# images and resize them to one size. Needs: pip install kornia
_base_ = '../../configs/invp/invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(
    data_preprocessor=dict(
        type='AugmentingDataPreprocessor',
        transforms=[
            dict(
                type='RandomResizedCrop',
                size=(224, 224),
                scale=(0.2, 1.0),
                cropping_mode='resample',  # All images in one operation.
            ),
            dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
            dict(type='RandomGrayscale', p=0.2),
            dict(type='RandomGaussianBlur', kernel_size=(23, 23), sigma=(0.1, 2.0), p=0.5),
            dict(type='RandomHorizontalFlip', p=0.5),
        ],
    )
)

train_pipeline = [
    _base_.load_image,
    dict(type='AugmentedViews', transforms=[dict(type='Resize', size=(256, 256))]),
    _base_.pack_inputs,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# Mixed precision, which needs a GPU.
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
