from .cluster_memory import ClusterMemory
from .feature_memory import FeatureMemory
from .graph_memory import GraphMemory
from .key_queue import KeyQueue
from .odc_cluster_memory import ODCClusterMemory
from .propagation_memory import PropagationMemory
from .propagation_queue import PropagationQueue
from .ring_memory import RingMemory
from .self_label_memory import SelfLabelMemory
from .sized_memory import SizedMemory, memories_of

Memory = SizedMemory

__all__ = [
    'ClusterMemory',
    'FeatureMemory',
    'GraphMemory',
    'KeyQueue',
    'Memory',
    'ODCClusterMemory',
    'PropagationMemory',
    'PropagationQueue',
    'RingMemory',
    'SelfLabelMemory',
    'SizedMemory',
    'memories_of',
]
