"""The data sets of the evaluation: what to download, unpacking, checks and lists."""

from .data_set import Contents, DataSet, Download, ImageList
from .prepare import check, facts, missing_downloads, missing_files, prepare
from .table import data_sets

__all__ = [
    'Contents',
    'DataSet',
    'Download',
    'ImageList',
    'check',
    'data_sets',
    'facts',
    'missing_downloads',
    'missing_files',
    'prepare',
]
