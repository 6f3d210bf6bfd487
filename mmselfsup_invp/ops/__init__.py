"""The mathematics of the package: plain functions on tensors.

Everything here needs PyTorch and nothing else. Letters in the shapes: ``N`` images in the data
set (rows of the bank), ``B`` queries in a batch, ``D`` dimensions of the embedding, ``k``
neighbours a row of the graph, ``L`` positives found by walking it, ``M`` nearest rows taken as
background.
"""

from .checks import require_features, require_range
from .graph import exclude_anchor, knn_graph, propagate
from .losses import instance_loss, propagation_loss
from .ramps import ramp_weight
from .sampling import contains, select_positives
from .search import top_m
from .similarity import bank_similarity, full_logsumexp, masked_logsumexp

__all__ = [
    'bank_similarity',
    'contains',
    'exclude_anchor',
    'full_logsumexp',
    'instance_loss',
    'knn_graph',
    'masked_logsumexp',
    'propagate',
    'propagation_loss',
    'ramp_weight',
    'require_features',
    'require_range',
    'select_positives',
    'top_m',
]
