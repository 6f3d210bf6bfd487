"""Order and sizes of the training images, stored in checkpoints: each has a row of the memory."""

import hashlib
import os

import torch
from mmengine.dataset import BaseDataset
from torch import Tensor

from ...datasets.files import MISSING, file_sizes, listed, printable
from .common import innermost_dataset

# Key of the digest in a checkpoint's 'meta'.
IMAGE_ORDER = 'image_order'
# Key of the sizes of the files.
IMAGE_SIZES = 'image_sizes'
# Paths that enter the digest; reading all those of a larger data set would take seconds.
MAX_PATHS = 2**16


def sampled_paths(dataset: BaseDataset) -> tuple[int, list[str]]:
    """Number of images, and the paths of up to 65536 evenly spaced ones."""
    dataset = innermost_dataset(dataset)
    length = len(dataset)
    rows = torch.linspace(0, length - 1, min(length, MAX_PATHS), dtype=torch.float64).long()
    infos = (dataset.get_data_info(row) for row in rows.tolist())
    return length, [str(info.get('img_path', '')) for info in infos]


def image_order(dataset: BaseDataset) -> str:
    """Return the number of images and a digest of their paths.

    The digest covers up to 65536 evenly spaced paths, relative to their common folder, so that it
    stays the same when the data set is moved.
    """
    length, paths = sampled_paths(dataset)
    common = os.path.commonprefix([min(paths), max(paths)]).rfind('/') + 1
    # File names that are not valid UTF-8 are read with surrogates, which a plain encode() refuses.
    text = '\n'.join(path[common:] for path in paths).encode(errors='surrogateescape')
    return f'{length} {hashlib.sha256(text).hexdigest()[:32]}'


def require_same_order(saved: str, current: str) -> None:
    """Raise ``ValueError`` if a checkpoint's images are not those of the data set.

    A different number of images is not an error here: the memory refuses the checkpoint itself.
    """
    if saved != current and saved.split()[0] == current.split()[0]:
        raise ValueError(
            'The checkpoint was trained on other images, or on the same images in another order: '
            'each row of its memory would belong to another image. Resume with the image list of '
            'that run. To start from its network alone, load it into the backbone with '
            "init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.'). If the files "
            f"were only renamed, delete {IMAGE_ORDER!r} from the checkpoint's 'meta'."
        )


def image_sizes(dataset: BaseDataset) -> Tensor:
    """Sizes in bytes of the files of :func:`sampled_paths`, int64; -1 if missing or not local."""
    return torch.tensor(file_sizes(sampled_paths(dataset)[1]))


def require_same_sizes(saved: Tensor, dataset: BaseDataset) -> None:
    """Raise ``ValueError`` if files have other sizes than in a checkpoint: other contents."""
    current = image_sizes(dataset)
    if len(saved) != len(current):  # Another number of images, which the memory refuses.
        return
    changed = (saved != current) & (saved != MISSING) & (current != MISSING)
    if changed.any():
        paths = sampled_paths(dataset)[1]
        names = [printable(paths[row]) for row in changed.nonzero().flatten().tolist()]
        raise ValueError(
            f'The contents of {len(names)} images were changed since the checkpoint was written, '
            f'by the sizes of their files: {listed(names)}. Their rows of the memory would belong '
            'to other images. Restore the files, or start a new run. If the pictures are the same '
            f"and only stored in another way, delete {IMAGE_SIZES!r} from the checkpoint's 'meta'."
        )
