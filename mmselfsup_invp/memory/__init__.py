"""State of the methods as plain PyTorch modules: banks, queues, graphs, clusters and labels.

Everything here needs PyTorch and nothing else, so that it works in any training loop. All state is
in registered buffers: it moves with ``.to()`` and is saved with ``state_dict()``. No method makes
the host wait for the device unless its docstring says so. Letters in the shapes: see
:mod:`mmselfsup_invp.ops`.
"""

from .clusters import Clusters
from .feature_bank import FeatureBank
from .feature_queue import FeatureQueue
from .knn_graph import KNNGraph
from .nonfinite import NonFiniteFeatures, NonFiniteMonitor
from .self_labels import SelfLabels
from .state import RowState, first_occurrence, whole_state

__all__ = [
    'Clusters',
    'FeatureBank',
    'FeatureQueue',
    'KNNGraph',
    'NonFiniteFeatures',
    'NonFiniteMonitor',
    'RowState',
    'SelfLabels',
    'first_occurrence',
    'whole_state',
]
