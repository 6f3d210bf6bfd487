"""Adapter of MMSelfSup 1.0 with MMClassification; ``host`` describes the names."""

from mmcls.datasets import BaseDataset, CustomDataset  # noqa: F401
from mmcls.evaluation import VOCAveragePrecision  # noqa: F401
from mmengine.structures import InstanceData
from mmselfsup import registry as registries  # noqa: F401
from mmselfsup.datasets import ImageList
from mmselfsup.models import BaseModel  # noqa: F401
from mmselfsup.models.utils import SelfSupDataPreprocessor  # noqa: F401
from mmselfsup.structures import SelfSupDataSample as DataSample
from mmselfsup.utils import register_all_modules as register_host_modules  # noqa: F401
from torch import Tensor

LIST_DATASETS = (CustomDataset, ImageList)
STAND_INS: dict[str, dict[str, dict]] = {}


def make_sample(sample_idx: Tensor, metainfo: dict) -> DataSample:
    """Create a data sample.

    Args:
        sample_idx (Tensor): Index of the image in the data set, int64, shape ``(1,)``.
        metainfo (dict): Meta data of the image.
    """
    return DataSample(metainfo=metainfo, sample_idx=InstanceData(value=sample_idx))
