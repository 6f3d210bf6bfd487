# What every run of InvP needs. The propagation loss enters after 30 epochs at once (section 3.4).
_base_ = 'default_runtime.py'

default_hooks = dict(memory=dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=30))
