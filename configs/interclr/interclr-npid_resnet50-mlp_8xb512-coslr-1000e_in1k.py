# InterCLR on a memory bank, 1000 epochs: LARS with a large batch, the longest run of the paper.
_base_ = 'interclr-npid_resnet50-mlp_8xb32-coslr-200e_in1k.py'

train_dataloader = dict(batch_size=512, num_workers=8)

# 0.3 for each 256 of the batch of 4096. Biases and normalisation layers are neither adapted nor
# decayed, as is usual with LARS; the paper does not say.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='LARS', lr=4.8, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(
        custom_keys={
            'bn': dict(decay_mult=0, lars_exclude=True),
            'downsample.1': dict(decay_mult=0, lars_exclude=True),
            'bias': dict(decay_mult=0, lars_exclude=True),
        }
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', T_max=990, eta_min=4.8e-3, by_epoch=True, begin=10, end=1000),
]
train_cfg = dict(max_epochs=1000)
auto_scale_lr = dict(base_batch_size=4096)
