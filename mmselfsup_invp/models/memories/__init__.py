from .base import Memory, memories_of
from .cluster_memory import ClusterMemory
from .graph_memory import GraphMemory
from .key_queue import KeyQueue
from .odc_cluster_memory import ODCClusterMemory
from .propagation_memory import PropagationMemory
from .propagation_queue import PropagationQueue
from .self_label_memory import SelfLabelMemory

__all__ = [
    'ClusterMemory',
    'GraphMemory',
    'KeyQueue',
    'Memory',
    'ODCClusterMemory',
    'PropagationMemory',
    'PropagationQueue',
    'SelfLabelMemory',
    'memories_of',
]
