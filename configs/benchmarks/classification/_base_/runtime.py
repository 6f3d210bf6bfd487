# What every benchmark of this folder shares. `tools/benchmark.py` puts in the backbone of a
# checkpoint; with tools/train.py it is what model.backbone says.
_base_ = '../../../_base_/default_runtime.py'

default_hooks = dict(
    logger=dict(interval=50),
    # Enough to go on after an interruption.
    checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=1),
)
