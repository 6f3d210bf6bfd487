from .hooks import EpochSeedHook, KNNEvalHook, PropagationMemoryHook

__all__ = ['EpochSeedHook', 'KNNEvalHook', 'PropagationMemoryHook']
