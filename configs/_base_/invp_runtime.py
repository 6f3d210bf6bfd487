# Hooks of every run of InvP. The propagation loss gets its full weight after 30 epochs (section
# 3.3).
_base_ = 'default_runtime.py'

default_hooks = dict(memory=dict(type='PropagationMemoryHook', ramp='binary', ramp_epochs=30))
