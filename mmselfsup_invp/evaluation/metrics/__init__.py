from .tap_metric import TapMetric
from .voc_map import VOCMeanAveragePrecision

__all__ = ['TapMetric', 'VOCMeanAveragePrecision']
