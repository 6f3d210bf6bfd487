"""What a run needs to know of a data set: how many rows a bank takes, and the labels, if any."""

from collections.abc import Sequence
from operator import index

import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from torch import Tensor


def _source(dataset: object) -> BaseDataset:
    """The data set whose positions are the ``sample_idx`` of the samples.

    Raises:
        ValueError: If there is no single one.
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
    """Count the images of a data set, repeats by wrappers not counted.

    Raises:
        ValueError: If the data set is empty, or joins several that number their images alike.
    """
    source = _source(dataset)
    if not len(source):
        raise no_image(source)
    return len(source)


def no_image(dataset: object) -> ValueError:
    """The error of an empty data set: its type, and the list and folders it was to read."""
    folders = getattr(dataset, 'data_prefix', {}).values()
    places = ', '.join(filter(None, [getattr(dataset, 'ann_file', ''), *folders]))
    return ValueError(
        f'The data set {type(dataset).__name__} holds no image. Look at data_root, ann_file and '
        f'data_prefix of its config{f" ({places})" if places else ""}.'
    )


def image_labels(dataset: object) -> Tensor | None:
    """Labels of the images by ``sample_idx``, int64, shape ``(N,)``.

    None unless every image has one label that is a number; a multi-label image has a list.
    """
    source = _source(dataset)
    found = [source.get_data_info(row).get('gt_label', -1) for row in range(len(source))]
    try:
        labels = [index(label) for label in found]
    except TypeError:  # A list, a dict or a name is no whole number.
        return None
    return torch.tensor(labels) if labels and min(labels) >= 0 else None


def label_vector(label: Tensor, difficult: Sequence[int] | None, num_classes: int) -> Tensor:
    """Which classes an image shows.

    Args:
        label (Tensor): int64, shape ``(L,)``, its classes.
        difficult (Sequence[int], optional): Classes of objects that VOC calls difficult; those
            that are not in ``label`` too are neither present nor absent.
        num_classes (int): C.

    Returns:
        Tensor: int64, shape ``(C,)``, on the device of ``label``: 1 present, 0 absent, -1 neither.

    Example:
        >>> label_vector(torch.tensor([2]), [0, 2], 4)
        tensor([-1,  0,  1,  0])
    """
    vector = torch.zeros(num_classes, dtype=torch.int64, device=label.device)
    vector[list(difficult or [])] = -1
    vector[label] = 1
    return vector
