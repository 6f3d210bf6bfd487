# What every method of the arena shares: images, network, optimiser and evaluation. The harness sets
# the folder of the images, the epochs that the budget allows, the schedule and the seed.
_base_ = '../../../configs/_base_/default_runtime.py'

custom_imports = dict(
    imports=['mmselfsup_invp', 'benchmarks.arena.images', 'benchmarks.arena.networks'],
    allow_failed_imports=False,
)

# Forward passes of the network that a training image costs in an epoch, a backward pass counted as
# two. A method says what it needs.
network_passes = 3

size = 16
width = 16
channels = 8 * width

mean, std = [125.307, 122.961, 113.8575], [51.5865, 50.847, 51.255]
# Crop, flip, jitter and grey by the defaults of BatchViews; and crop and flip alone.
strong_view = dict()
weak_view = dict(jitter_prob=0, grey=0)
one_view = dict(type='BatchViews', size=size, mean=mean, std=std, views=[strong_view])
two_views = dict(one_view, views=[strong_view, strong_view])

backbone = dict(
    type='MixedResNet',
    width=width,
    depth=18,
    num_stages=4,
    out_indices=(3,),
    zero_init_residual=False,
)
# Chosen with the temperature of each method, see README.md.
neck = dict(type='ProjectionNeck', in_channels=channels, out_channels=128)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='keep_batch'),
    dataset=dict(type='ImageArray', path='train.npz'),
)
gallery_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='keep_batch'),
    dataset=dict(type='ImageArray', path='train.npz'),
)
query_dataloader = dict(gallery_dataloader, dataset=dict(type='ImageArray', path='val.npz'))

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.06, momentum=0.9, weight_decay=5e-4)
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)

default_hooks = dict(
    logger=dict(interval=1000),
    checkpoint=dict(interval=5, max_keep_ckpts=-1),
    knn=dict(
        type='KNNEvalHook',
        gallery=['backbone'],
        query_dataloader=query_dataloader,
        gallery_dataloader=gallery_dataloader,
        k=50,
        temperature=0.07,
    ),
)
