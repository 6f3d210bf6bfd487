"""Preparation of the evaluation data sets: downloads, unpacking, checks and lists."""

from .data_set import Contents, DataSet, Download, ImageList
from .prepare import check, prepare, selection
from .table import data_sets

__all__ = ['Contents', 'DataSet', 'Download', 'ImageList']
__all__ += ['check', 'data_sets', 'prepare', 'selection']
