from .epoch_seed_hook import EpochSeedHook
from .knn_eval_hook import KNNEvalHook
from .propagation_memory_hook import PropagationMemoryHook

__all__ = ['EpochSeedHook', 'KNNEvalHook', 'PropagationMemoryHook']
