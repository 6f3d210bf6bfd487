from ..compat import require_host

require_host()

from .console import ConciseRunner
from .hooks import EpochSeedHook, KNNEvalHook, PropagationMemoryHook, SelfLabelHook
from .loops import EpochBasedTrainLoop
from .progress import ProgressLogProcessor

__all__ = [
    'ConciseRunner',
    'EpochBasedTrainLoop',
    'EpochSeedHook',
    'KNNEvalHook',
    'ProgressLogProcessor',
    'PropagationMemoryHook',
    'SelfLabelHook',
]
