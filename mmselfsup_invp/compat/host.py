"""What the components use of the host, by the same names for every host.

The adapters ``mmselfsup`` and ``mmpretrain`` of this package define these names.

Attributes:
    registries (ModuleType): The host's registries, some of which are ``DATASETS``, ``HOOKS``,
        ``LOOPS``, ``METRICS``, ``MODELS`` and ``TRANSFORMS`` below.
    BaseDataset, CustomDataset (type): Data sets of images. The order of their arguments differs:
        give them by keyword.
    BaseModel (type): Base class of the algorithms.
    DataSample (type): Class of the data samples.
    LIST_DATASETS (tuple[type, ...]): Data sets that read a list of images.
    SelfSupDataPreprocessor (type): Returns the views and the data samples as a tuple.
    STAND_INS (dict): Components that configs name as MMSelfSup and MMClassification do and that
        the host lacks or has with another meaning, by scope, registry and name.
    VOCAveragePrecision (type): Metric of VOC's classes.
    make_sample (Callable): ``make_sample(sample_idx, metainfo)`` creates a data sample.
    register_host_modules (Callable): The host's ``register_all_modules``.
"""

import warnings
from importlib import import_module

from .versions import host_name, require_host

require_host()

# Detection alone needs operations that mmcv-lite lacks, and checks that they are there.
warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
adapter = import_module(f'.{host_name()}', __package__)

registries = adapter.registries
DATASETS = registries.DATASETS
HOOKS = registries.HOOKS
LOOPS = registries.LOOPS
METRICS = registries.METRICS
MODELS = registries.MODELS
TRANSFORMS = registries.TRANSFORMS

BaseDataset = adapter.BaseDataset
BaseModel = adapter.BaseModel
CustomDataset = adapter.CustomDataset
DataSample = adapter.DataSample
LIST_DATASETS = adapter.LIST_DATASETS
STAND_INS = adapter.STAND_INS
SelfSupDataPreprocessor = adapter.SelfSupDataPreprocessor
VOCAveragePrecision = adapter.VOCAveragePrecision
make_sample = adapter.make_sample
register_host_modules = adapter.register_host_modules
