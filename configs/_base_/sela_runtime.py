# What every run of SeLa needs: 100 events, dense at the start, that label the images for all heads.
_base_ = 'default_runtime.py'

default_hooks = dict(
    self_label=dict(type='SelfLabelHook', num_events=100, spacing='power', heads='all', lambd=25.0)
)
