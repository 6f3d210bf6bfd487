# What every run of this package shares, whichever host is installed.
default_scope = 'mmselfsup_invp'
custom_imports = dict(imports=['mmselfsup_invp'], allow_failed_imports=False)

# A fixed seed, on which EpochSeedHook builds: the same config gives the same run.
randomness = dict(seed=0)

# Hooks stand here by name rather than in the list `custom_hooks`, so that a config, or the command
# line with --cfg-options, changes one setting of one of them and keeps the others.
default_hooks = dict(
    # MMEngine's own, which the log waits for less often.
    runtime_info=dict(type='DeferredInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # A run that is stopped loses no more than the epoch it is in; the last three are kept.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    epoch_seed=dict(type='EpochSeedHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

log_processor = dict(
    window_size=10, custom_cfg=[dict(data_src='', method='mean', window_size='global')]
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends, name='visualizer')

log_level = 'INFO'
load_from = None
resume = False
