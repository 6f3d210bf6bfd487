from .agreement import cluster_agreement
from .checkpoints import PretrainedBackbone, read_backbone
from .detection import check_loaded, run_detection
from .extraction import collect_features, extract_features
from .graph_health import GraphHealth, graph_health, neighbour_purity
from .knn import knn_accuracy, knn_predict

__all__ = [
    'GraphHealth',
    'PretrainedBackbone',
    'check_loaded',
    'cluster_agreement',
    'collect_features',
    'extract_features',
    'graph_health',
    'knn_accuracy',
    'knn_predict',
    'neighbour_purity',
    'read_backbone',
    'run_detection',
]
