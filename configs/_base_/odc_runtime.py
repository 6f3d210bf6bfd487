# Hooks of every run of ODC. A config sets the loader of the training images without
# augmentation: clusters=dict(extract_dataloader=_base_.gallery_dataloader).
_base_ = 'default_runtime.py'

default_hooks = dict(
    clusters=dict(type='OnlineClusterHook', centroid_interval=10, repair_interval=10),
    reweight=dict(type='ODCReweightHook', power=0.5, interval=10),
)
