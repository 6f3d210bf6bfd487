from ..compat import require_host

require_host()

from .hooks import EpochSeedHook, KNNEvalHook, PropagationMemoryHook, SelfLabelHook
from .loops import EpochBasedTrainLoop

__all__ = [
    'EpochBasedTrainLoop',
    'EpochSeedHook',
    'KNNEvalHook',
    'PropagationMemoryHook',
    'SelfLabelHook',
]
