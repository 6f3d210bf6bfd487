from ..compat import require_host

require_host()

from .agreement import cluster_agreement
from .average_precision import average_precision, mean_average_precision
from .checkpoints import PretrainedBackbone, read_backbone, read_checkpoint, run_config
from .detection import check_loaded, run_detection
from .encoder import Encoder
from .extraction import extract_features
from .few_shot import few_shot_accuracy
from .graph_health import GraphHealth, graph_health, neighbour_purity
from .knn import knn_accuracy, knn_predict
from .metrics import LayerwiseMetric, MultiHeadEvaluator, VOCMeanAveragePrecision
from .positives import neighbours_by_hop
from .retrieval import Retrieval, retrieve
from .runs import Curve, TrainingRun, read_run
from .similarity import similarity_distribution, similarity_metrics
from .tsne import tsne

__all__ = [
    'Curve',
    'Encoder',
    'GraphHealth',
    'LayerwiseMetric',
    'MultiHeadEvaluator',
    'PretrainedBackbone',
    'Retrieval',
    'TrainingRun',
    'VOCMeanAveragePrecision',
    'average_precision',
    'check_loaded',
    'cluster_agreement',
    'extract_features',
    'few_shot_accuracy',
    'graph_health',
    'knn_accuracy',
    'knn_predict',
    'mean_average_precision',
    'neighbour_purity',
    'neighbours_by_hop',
    'read_backbone',
    'read_checkpoint',
    'read_run',
    'retrieve',
    'run_config',
    'run_detection',
    'similarity_distribution',
    'similarity_metrics',
    'tsne',
]
