from .feature_memory import FeatureMemory
from .graph_memory import GraphMemory
from .propagation_memory import PropagationMemory
from .propagation_queue import PropagationQueue
from .self_label_memory import SelfLabelMemory
from .sized_memory import SizedMemory

__all__ = [
    'FeatureMemory',
    'GraphMemory',
    'PropagationMemory',
    'PropagationQueue',
    'SelfLabelMemory',
    'SizedMemory',
]
