"""The mathematics of the package: plain functions on tensors.

Everything here needs PyTorch and nothing else. Letters in the shapes: ``N`` images in the data
set (rows of the bank), ``B`` queries in a batch, ``D`` dimensions of the embedding, ``k``
neighbours a row of the graph, ``L`` positives found by walking it, ``M`` nearest rows taken as
background, ``C`` clusters, ``K`` negatives drawn from other clusters.
"""

from .checks import require_features, require_range
from .clustering import (
    assign,
    cluster_health,
    cluster_means,
    cluster_sizes,
    kmeans,
    repair_small,
    scores,
    small_size,
)
from .graph import exclude_anchor, knn_graph, link_back, propagate
from .losses import instance_loss, margin_logit, margin_nce, propagation_loss
from .negatives import NO_NEGATIVE, draw_negatives, sample_negatives, sample_others, sample_positive
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
from .soft_propagation import propagate_trusted, soft_cross_entropy, soft_walk

__all__ = [
    'NO_NEGATIVE',
    'SinkhornInfo',
    'assign',
    'bank_similarity',
    'cluster_health',
    'cluster_means',
    'cluster_sizes',
    'contains',
    'draw_negatives',
    'exclude_anchor',
    'full_logsumexp',
    'initial_labels',
    'instance_loss',
    'kmeans',
    'knn_graph',
    'link_back',
    'margin_logit',
    'margin_nce',
    'masked_logsumexp',
    'propagate',
    'propagate_trusted',
    'propagation_loss',
    'ramp_weight',
    'relabel_iterations',
    'relabel_times',
    'repair_small',
    'require_features',
    'require_range',
    'sample_negatives',
    'sample_others',
    'sample_positive',
    'scores',
    'select_positives',
    'small_size',
    'soft_cross_entropy',
    'soft_walk',
    'self_label_loss',
    'sinkhorn_labels',
    'top_m',
]
