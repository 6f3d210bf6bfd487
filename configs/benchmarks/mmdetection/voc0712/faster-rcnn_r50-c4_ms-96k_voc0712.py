# The schedule of InvP's official code: 4 images in all, a quarter of the batch and of the learning
# rate, four times the iterations. One GPU.
_base_ = 'faster-rcnn_r50-c4_ms-24k_voc0712.py'

train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_iters=96000, val_interval=8000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=400),
    dict(type='MultiStepLR', by_epoch=False, milestones=[72000, 88000], gamma=0.1, end=96000),
]
default_hooks = dict(checkpoint=dict(interval=8000))

benchmark = dict(
    name='voc0712-detection-96k',
    title='VOC 2007+2012 detection, Faster R-CNN R50-C4, 96k iterations of 4 images, AP50',
)
