from ..compat import require_host

require_host()

from .console import ConciseRunner
from .hooks import EpochSeedHook, KNNEvalHook, PropagationMemoryHook, SelfLabelHook
from .progress import ProgressLogProcessor

__all__ = [
    'ConciseRunner',
    'EpochSeedHook',
    'KNNEvalHook',
    'ProgressLogProcessor',
    'PropagationMemoryHook',
    'SelfLabelHook',
]
