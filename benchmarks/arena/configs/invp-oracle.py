# InvP whose positives of a wrong class are dropped by the labels; keep_wrong sets how many stay.
_base_ = 'invp.py'

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'benchmarks.arena.oracle'], allow_failed_imports=False
)

model = dict(memory=dict(type='OracleMemory', keep_wrong=0.0))
default_hooks = dict(oracle=dict(type='OracleHook'))
