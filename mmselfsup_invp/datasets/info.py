"""Number of images of a data set, and their labels."""

from collections.abc import Sequence
from operator import index

import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from torch import Tensor

from ..compat.patches import empty_dataset_error


def _unwrap(dataset: object) -> BaseDataset:
    """The data set inside wrappers, whose positions are the ``sample_idx``; not a
    ``ConcatDataset``.
    """
    while isinstance(dataset, (RepeatDataset, ClassBalancedDataset)):
        dataset = dataset.dataset
    if isinstance(dataset, ConcatDataset):
        raise ValueError(
            'A ConcatDataset numbers the images of each part from 0, so different images would '
            'share a row of the bank. List all images in one annotation file instead.'
        )
    return dataset


def num_images(dataset: object) -> int:
    """Number of images of a data set; repetitions by wrappers are not counted.

    Raises:
        ValueError: If the data set is empty or a ``ConcatDataset``.
    """
    source = _unwrap(dataset)
    if not len(source):
        raise empty_dataset_error(source)
    return len(source)


def image_labels(dataset: object) -> Tensor | None:
    """Labels of the images in the order of ``sample_idx``.

    Returns:
        Tensor | None: int64, shape ``(N,)``; None unless every image has exactly one label that
        is a non-negative integer. Multi-label images have a list instead.
    """
    source = _unwrap(dataset)
    found = [source.get_data_info(row).get('gt_label', -1) for row in range(len(source))]
    try:
        labels = [index(label) for label in found]
    except TypeError:  # A list, a dict or a string.
        return None
    return torch.tensor(labels) if labels and min(labels) >= 0 else None


def label_vector(label: Tensor, difficult: Sequence[int] | None, num_classes: int) -> Tensor:
    """Presence of each class in a multi-label image.

    Args:
        label (Tensor): Classes of the image, int64, shape ``(L,)``.
        difficult (Sequence[int], optional): Classes of the objects that VOC marks as difficult.
            Those that are not in ``label`` as well are ignored in the evaluation.
        num_classes (int): Number of classes C.

    Returns:
        Tensor: int64, shape ``(C,)``, on the device of ``label``: 1 present, 0 absent, -1 ignored.

    Example:
        >>> label_vector(torch.tensor([2]), [0, 2], 4)
        tensor([-1,  0,  1,  0])
    """
    vector = torch.zeros(num_classes, dtype=torch.int64, device=label.device)
    vector[list(difficult or [])] = -1
    vector[label] = 1
    return vector
