from .agreement import cluster_agreement
from .average_precision import average_precision, mean_average_precision
from .checkpoints import PretrainedBackbone, read_backbone
from .extraction import collect_features, extract_features
from .graph_health import GraphHealth, graph_health, neighbour_purity
from .knn import knn_accuracy, knn_predict
from .metrics import TapMetric, VOCMeanAveragePrecision

__all__ = [
    'GraphHealth',
    'PretrainedBackbone',
    'TapMetric',
    'VOCMeanAveragePrecision',
    'average_precision',
    'cluster_agreement',
    'collect_features',
    'extract_features',
    'graph_health',
    'knn_accuracy',
    'knn_predict',
    'mean_average_precision',
    'neighbour_purity',
    'read_backbone',
]
