# Hooks of every run of SeLa: 100 events, dense at the start, which relabel the images for all
# heads.
_base_ = 'default_runtime.py'

default_hooks = dict(
    self_label=dict(type='SelfLabelHook', num_events=100, spacing='power', heads='all', lambd=25.0)
)
