from .epoch_seed_hook import EpochSeedHook
from .knn_eval_hook import KNNEvalHook
from .propagation_memory_hook import PropagationMemoryHook
from .self_label_hook import SelfLabelHook

__all__ = ['EpochSeedHook', 'KNNEvalHook', 'PropagationMemoryHook', 'SelfLabelHook']
