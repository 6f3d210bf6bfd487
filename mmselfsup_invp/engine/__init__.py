from ..compat import require_host

require_host()

from .hooks import EpochSeedHook, KNNEvalHook, PropagationMemoryHook, SelfLabelHook

__all__ = ['EpochSeedHook', 'KNNEvalHook', 'PropagationMemoryHook', 'SelfLabelHook']
