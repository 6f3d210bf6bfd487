# What every run of this package shares, on top of MMSelfSup's own runtime.
_base_ = 'mmselfsup::selfsup/_base_/default_runtime.py'

custom_imports = dict(imports=['mmselfsup_invp'], allow_failed_imports=False)

# A fixed seed, on which EpochSeedHook builds: the same config gives the same run.
randomness = dict(seed=0)

# Hooks stand here by name rather than in the list `custom_hooks`, so that a config, or the command
# line with --cfg-options, changes one setting of one of them and keeps the others.
default_hooks = dict(
    # MMEngine's own, which the log waits for less often.
    runtime_info=dict(type='DeferredInfoHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    # A run that is stopped loses no more than the epoch it is in; the last three are kept.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
)
