"""Adapter of MMPretrain 1.2 and onedl-mmpretrain 1.3; ``host`` describes the names.

The components below keep the names and the meaning that they have in MMSelfSup 1.0 and
MMClassification, so that the same config works with both hosts.
"""

from collections.abc import Sequence

import mmpretrain.models
from mmengine.fileio import join_path, list_from_file
from mmpretrain import registry as registries  # noqa: F401
from mmpretrain.datasets import BaseDataset, CustomDataset  # noqa: F401
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.evaluation import VOCAveragePrecision  # noqa: F401
from mmpretrain.structures import DataSample
from mmpretrain.utils import register_all_modules as register_host_modules  # noqa: F401
from torch import Tensor, nn

from .versions import UnsupportedHost


class SelfSupDataPreprocessor(mmpretrain.models.SelfSupDataPreprocessor):
    """Returns views and data samples as a tuple; MMPretrain's returns a dict."""

    def forward(self, data: dict, training: bool = False) -> tuple[list[Tensor], object]:
        """Normalise a batch."""
        batch = super().forward(data, training)
        return batch['inputs'], batch['data_samples']


class BaseModel(mmpretrain.models.BaseSelfSupervisor):
    """Base class of the algorithms; its preprocessor is the one above, from every scope.

    Args:
        data_preprocessor (dict | nn.Module, optional): As for MMPretrain's base class, which finds
            its own default in its own scope only. Defaults to None.
        **kwargs: Arguments of MMPretrain's base class.
    """

    def __init__(self, *, data_preprocessor: dict | nn.Module | None = None, **kwargs) -> None:
        if not isinstance(data_preprocessor, nn.Module) and 'type' not in (data_preprocessor or {}):
            data_preprocessor = SelfSupDataPreprocessor(**(data_preprocessor or {}))
        super().__init__(data_preprocessor=data_preprocessor, **kwargs)


class ResNet(mmpretrain.models.ResNet):
    """ResNet that counts its outputs from the stem, 0, to the last stage, 4.

    MMPretrain counts the stages from 0 and cannot return the stem.

    Args:
        depth (int): Depth of the network.
        out_indices (Sequence[int]): Outputs to return. Defaults to (4,).
        zero_init_residual (bool): Whether the last normalisation of each block starts at 0.
            Defaults to False; MMPretrain's default is True.
        **kwargs: Arguments of MMPretrain's ``ResNet``.
    """

    def __init__(
        self,
        depth: int,
        out_indices: Sequence[int] = (4,),
        zero_init_residual: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(depth, zero_init_residual=zero_init_residual, **kwargs)
        self.out_indices = tuple(out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs for images of shape ``(B, 3, H, W)``; that of the stem is not pooled."""
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        outputs = [x]
        x = self.maxpool(x)
        for name in self.res_layers:
            x = getattr(self, name)(x)
            outputs.append(x)
        return tuple(outputs[index] for index in sorted(self.out_indices))


class PackSelfSupInputs(PackInputs):
    """Packs the views, always as a list, and the keys that are named.

    Args:
        key (str): Key of the image or the list of views. Defaults to ``'img'``.
        algorithm_keys (Sequence[str]): Fields of the data sample. ``sample_idx`` is an int of its
            meta data. Defaults to ().
        meta_keys (Sequence[str]): Meta data of the data sample. Defaults to ().
    """

    def __init__(
        self,
        key: str = 'img',
        algorithm_keys: Sequence[str] = (),
        meta_keys: Sequence[str] = (),
    ) -> None:
        self.keys = {*algorithm_keys, *meta_keys}
        # PackInputs always packs gt_label and mask.
        fields = self.keys - {'sample_idx', 'gt_label', 'mask', *meta_keys}
        super().__init__(key, sorted(fields), [*meta_keys, 'sample_idx'])

    def transform(self, results: dict) -> dict:
        """Pack a sample of the pipeline."""
        views = results[self.input_key]
        named = {key: results[key] for key in self.keys}
        views = views if isinstance(views, list) else [views]
        return super().transform({**named, self.input_key: views})


class ImageList(CustomDataset):
    """Images of a list with lines ``NAME LABEL``, or ``NAME`` for images without labels.

    The label of an image without one is -1.

    Args:
        ann_file (str): The list.
        **kwargs: Arguments of MMPretrain's ``CustomDataset``.
    """

    def __init__(self, ann_file: str, **kwargs) -> None:
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The images in the order of the list."""
        lines = [line.split() for line in list_from_file(self.ann_file)]
        labelled = len(lines[0]) == 2
        return [
            dict(
                img_path=join_path(self.img_prefix, line[0]),
                gt_label=int(line[1]) if labelled else -1,
            )
            for line in lines
        ]


def refuse_odc(**kwargs) -> None:
    """Stand in for ODC."""
    raise UnsupportedHost(
        'ODC is an algorithm of MMSelfSup 1.0, which MMPretrain does not have. Train it in an '
        'environment with MMSelfSup: pip install -r requirements/mim.txt'
    )


def make_sample(sample_idx: Tensor, metainfo: dict) -> DataSample:
    """Create a data sample.

    Args:
        sample_idx (Tensor): Index of the image in the data set, int64, shape ``(1,)``.
        metainfo (dict): Meta data of the image.
    """
    return DataSample(metainfo={**metainfo, 'sample_idx': int(sample_idx)})


LIST_DATASETS = (CustomDataset, ImageList)
STAND_INS = {
    'mmselfsup': {
        'DATASETS': dict(ImageList=ImageList),
        'MODELS': dict(ResNet=ResNet, ODC=refuse_odc),
        'TRANSFORMS': dict(PackSelfSupInputs=PackSelfSupInputs),
    },
    'mmcls': {'TRANSFORMS': dict(PackClsInputs=PackInputs)},
}
