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
from .self_label import (
    initial_labels,
    relabel_iterations,
    relabel_times,
    self_label_loss,
)
from .similarity import bank_similarity, full_logsumexp, masked_logsumexp
from .sinkhorn import SinkhornInfo, sinkhorn_labels

__all__ = [
    'SinkhornInfo',
    'bank_similarity',
    'contains',
    'exclude_anchor',
    'full_logsumexp',
    'initial_labels',
    'instance_loss',
    'knn_graph',
    'masked_logsumexp',
    'propagate',
    'propagation_loss',
    'ramp_weight',
    'relabel_iterations',
    'relabel_times',
    'require_features',
    'require_range',
    'select_positives',
    'self_label_loss',
    'sinkhorn_labels',
    'top_m',
]
