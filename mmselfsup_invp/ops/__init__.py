"""The operations of the package: plain functions on tensors.

They need PyTorch and nothing else. Symbols in the shapes: ``N`` images of the data set (rows of
the bank), ``B`` queries of a batch, ``D`` dimensions of the embedding, ``k`` neighbours per row of
the graph, ``L`` positives found by propagation, ``M`` nearest rows used as background, ``C``
clusters, ``K`` negatives drawn from other clusters (classes in self-labelling).
"""

from .clustering import assign, cluster_means, cluster_sizes, kmeans
from .graph import exclude_anchor, knn_graph, propagate
from .invp import invp_step
from .losses import HardSampling, instance_loss, propagation_loss
from .margins import margin_nce
from .negatives import (
    NO_NEGATIVE,
    sample_negatives,
    sample_positive,
    sample_uniform_negatives,
)
from .positives import Positives
from .ramps import ramp_weight
from .repair import repair_small
from .search import Neighbours, top_m
from .self_label import self_label_loss
from .similarity import bank_similarity, full_logsumexp
from .sinkhorn import sinkhorn_labels

__all__ = [
    'NO_NEGATIVE',
    'HardSampling',
    'Neighbours',
    'Positives',
    'assign',
    'bank_similarity',
    'cluster_means',
    'cluster_sizes',
    'exclude_anchor',
    'full_logsumexp',
    'instance_loss',
    'invp_step',
    'kmeans',
    'knn_graph',
    'margin_nce',
    'propagate',
    'propagation_loss',
    'ramp_weight',
    'repair_small',
    'sample_negatives',
    'sample_positive',
    'sample_uniform_negatives',
    'self_label_loss',
    'sinkhorn_labels',
    'top_m',
]
