# InvP on your own images, without labels. Put them into data/custom/train, in any folder
# structure. The bank takes its length from their number. The recipe is that of
# ImageNet with the MLP neck; 200 epochs are our choice. See docs/en/own_data.md.
_base_ = [
    '../_base_/models/invp_resnet50-mlp.py',
    '../_base_/datasets/imagenet_invp.py',
    '../_base_/schedules/sgd_coslr-800e.py',
    '../_base_/invp_runtime.py',
]

data_root = 'data/custom/'
train_dataloader = dict(
    dataset=dict(
        type='ImageFiles',
        data_root=data_root,
        data_prefix=dict(img_path='train'),
        ann_file='',  # All images of the folder; or a list of them, one path per line.
    )
)

param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, begin=0, end=200)]
train_cfg = dict(max_epochs=200)
auto_scale_lr = dict(base_batch_size=128)
