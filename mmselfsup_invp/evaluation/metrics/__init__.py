from .multi_head_evaluator import MultiHeadEvaluator
from .tap_metric import TapMetric
from .voc_map import VOCMeanAveragePrecision

__all__ = ['MultiHeadEvaluator', 'TapMetric', 'VOCMeanAveragePrecision']
