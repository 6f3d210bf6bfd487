# Runtime of all benchmarks of this folder. `tools/benchmark.py` sets the backbone from a
# checkpoint; with tools/train.py it is model.backbone.
_base_ = '../../../_base_/default_runtime.py'

default_hooks = dict(
    logger=dict(interval=50),
    # Enough to resume after an interrupt.
    checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=1),
)
