# Runtime of all configs of this package, on top of that of MMSelfSup.
_base_ = 'mmselfsup::selfsup/_base_/default_runtime.py'

custom_imports = dict(imports=['mmselfsup_invp'], allow_failed_imports=False)

# A fixed seed, on which EpochSeedHook builds: the same config gives the same run.
randomness = dict(seed=0)

# Hooks have names here instead of being in the list `custom_hooks`, so that a config or
# --cfg-options can change one setting of a hook.
default_hooks = dict(
    # Reads the losses when they are logged, not in every iteration.
    runtime_info=dict(type='DeferredInfoHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    # Estimates the memory, and warns of a plateau.
    health=dict(type='RunHealthHook'),
    # An interrupted run loses at most the current epoch.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
)

# Losses beside their chance levels, images per second and the remaining time.
log_processor = dict(type='ProgressLogProcessor')
