# Runtime of all configs of this package, the same with every host.
default_scope = 'mmselfsup_invp'
custom_imports = dict(imports=['mmselfsup_invp'], allow_failed_imports=False)

# A fixed seed, on which EpochSeedHook builds: the same config gives the same run.
randomness = dict(seed=0)

# Hooks have names here instead of being in the list `custom_hooks`, so that a config or
# --cfg-options can change one setting of a hook.
default_hooks = dict(
    # Reads the losses when they are logged, not in every iteration.
    runtime_info=dict(type='DeferredInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # An interrupted run loses at most the current epoch.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    # Estimates the memory, and warns of a plateau.
    health=dict(type='RunHealthHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

# Losses beside their chance levels, images per second and the remaining time.
log_processor = dict(type='ProgressLogProcessor')
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends, name='visualizer')

log_level = 'INFO'
load_from = None
resume = False
