# Soft propagation with a weak teacher on your own images, without labels. Put them into
# data/custom/train, in folders or not. Every image has a row in the bank.
_base_ = 'soft-invp_resnet50-mlp_8xb32-coslr-200e_in1k.py'

model = dict(
    # Epochs of a few thousand images have few iterations: a faster teacher.
    encoder_momentum=0.99,
    key_splits=4,
    memory=dict(
        _delete_=True, type='PropagationMemory', feat_dim=128, num_neighbours=20, momentum=0
    ),
)

data_root = 'data/custom/'
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        type='ImageFiles',
        data_root=data_root,
        data_prefix=dict(img_path='train'),
        ann_file='',  # All images of the folder; or a list of them, one path a line.
    ),
)

auto_scale_lr = dict(base_batch_size=128)
