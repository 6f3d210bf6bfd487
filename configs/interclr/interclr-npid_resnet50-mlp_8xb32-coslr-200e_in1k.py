# InterCLR on a memory bank, 200 epochs: the final model of the paper.
_base_ = [
    '../_base_/models/interclr-npid_resnet50.py',
    '../_base_/datasets/imagenet_interclr.py',
    '../_base_/schedules/sgd_coslr-200e_interclr.py',
    '../_base_/interclr_runtime.py',
]

train_dataloader = dict(batch_size=32, num_workers=4)

default_hooks = dict(clusters=dict(extract_dataloader=_base_.gallery_dataloader))
auto_scale_lr = dict(base_batch_size=256)
