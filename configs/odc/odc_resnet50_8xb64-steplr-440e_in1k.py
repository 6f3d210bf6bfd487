# ODC on ImageNet: the settings of MMSelfSup, on one or several GPUs.
_base_ = [
    '../_base_/models/odc_resnet50.py',
    '../_base_/datasets/imagenet_odc.py',
    '../_base_/schedules/sgd_steplr-440e_odc.py',
    '../_base_/odc_runtime.py',
]

train_dataloader = dict(batch_size=64, num_workers=4)

default_hooks = dict(clusters=dict(extract_dataloader=_base_.gallery_dataloader))
auto_scale_lr = dict(base_batch_size=512)
