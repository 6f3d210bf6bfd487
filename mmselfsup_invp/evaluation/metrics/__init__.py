from .layerwise_metric import LayerwiseMetric
from .multi_head_evaluator import MultiHeadEvaluator
from .voc_map import VOCMeanAveragePrecision

__all__ = ['MultiHeadEvaluator', 'LayerwiseMetric', 'VOCMeanAveragePrecision']
