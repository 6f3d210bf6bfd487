"""Images held in memory, and random views of a whole batch at once: loading costs next to nothing.

Registered in MMSelfSup's registries under the names of the classes; the arena's configs import this
module by ``custom_imports``.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import FUNCTIONS
from mmselfsup.models.utils import SelfSupDataPreprocessor
from mmselfsup.registry import DATASETS, MODELS
from torch import Tensor
from torch.utils.data import Dataset

from mmselfsup_invp.structures import SampleBatch

SPLITS = ('train', 'val', 'test')
# Conversion of RGB to YIQ, in which a change of hue is a rotation of the last two axes.
RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
GREY = RGB_TO_YIQ[0]


def prepare(
    root: str | Path, out: str | Path, num_train: int = 10000, num_val: int = 10000, seed: int = 0
) -> None:
    """Write the splits of the arena as one ``.npz`` file each.

    Training and validation images are two disjoint random sets of the training images of CIFAR-10;
    the test images are those of CIFAR-10.

    Args:
        root (str | Path): CIFAR-10 as ``tools/convert_dataset.py`` writes it.
        out (str | Path): Folder of the splits.
        num_train (int): Training images. Defaults to 10000.
        num_val (int): Validation images. Defaults to 10000.
        seed (int): Of the choice. Defaults to 0.

    Raises:
        ValueError: If there are too few training images.
    """
    root, out = Path(root), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lines = (root / 'meta' / 'train.txt').read_text().splitlines()
    if num_train + num_val > len(lines):
        raise ValueError(
            f'{root} has {len(lines)} training images, fewer than {num_train} to train on and '
            f'{num_val} to validate on.'
        )
    order = np.random.default_rng(seed).permutation(len(lines))
    parts = dict(
        train=[f'train/{lines[i]}' for i in order[:num_train]],
        val=[f'train/{lines[i]}' for i in order[num_train : num_train + num_val]],
        test=[f'test/{line}' for line in (root / 'meta' / 'test.txt').read_text().splitlines()],
    )
    for name, entries in parts.items():
        paths, labels = zip(*(entry.rsplit(' ', 1) for entry in entries), strict=True)
        images = np.stack([cv2.imread(str(root / path))[..., ::-1] for path in paths])
        np.savez(
            out / f'{name}.npz',
            image=np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
            label=np.array(labels, dtype=np.int64),
            path=np.array(json.dumps(paths)),
        )


class IdBatch(SampleBatch):
    """The ids of a batch, and the classes for supervised training.

    Args:
        ids (Tensor): int64, shape ``(B,)``.
        label (Tensor): int64, shape ``(B,)``.
    """

    def __init__(self, ids: Tensor, label: Tensor) -> None:
        self.ids = ids
        self.label = label
        self.metainfo = [{}] * len(ids)


@DATASETS.register_module()
class ImageArray(Dataset):
    """RGB images, uint8, of one split of :func:`prepare`.

    Args:
        path (str): The ``.npz`` file.
    """

    metainfo: dict = {}

    def __init__(self, path: str) -> None:
        with np.load(path) as data:
            self.image = torch.from_numpy(data['image'])
            self.label = torch.from_numpy(data['label'])
            self.paths = json.loads(str(data['path']))

    def __len__(self) -> int:
        return len(self.label)

    def get_data_info(self, index: int) -> dict:
        """Path and label of an image, as the hooks of the package ask for them."""
        return dict(img_path=self.paths[index], gt_label=int(self.label[index]), sample_idx=index)

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict:
        """A batch: ``inputs`` as one tensor, uint8, ``(B, 3, H, W)``, and the ids."""
        rows = torch.tensor(indices)
        return dict(inputs=[self.image[rows]], data_samples=IdBatch(rows, self.label[rows]))


@FUNCTIONS.register_module()
def keep_batch(batch: dict) -> dict:
    """The collate function of a data set that gives whole batches."""
    return batch


@MODELS.register_module()
class BatchViews(SelfSupDataPreprocessor):
    """Random crops, flips and changes of colour of a whole batch at once.

    A crop is resampled bilinearly. Brightness, contrast, saturation, hue and grey act on the
    colours linearly, one after the other, without clipping in between (hue is a rotation in YIQ),
    so that a view's whole change of colour is one affine map.

    Args:
        views (list[dict]): One set of options for each view, see :meth:`view`.
        size (int): Height and width of the views. Images for the evaluation are averaged down to
            it.
        **kwargs: ``mean`` and ``std`` of pixels within 0 to 255.
    """

    def __init__(self, views: list[dict], size: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.views = views
        self.size = size

    def forward(self, data: dict, training: bool = False) -> tuple[list[Tensor], object]:
        """The views, float32, ``(B, 3, size, size)``, normalised; whole images in evaluation."""
        image = data['inputs'][0].to(self.mean.device).float()
        if training:
            views = [self.view(image, **options) for options in self.views]
        else:
            views = [F.adaptive_avg_pool2d(image, self.size)]
        return [(view - self.mean) / self.std for view in views], data['data_samples']

    @torch.no_grad()
    def view(
        self,
        image: Tensor,
        scale: tuple[float, float] = (0.2, 1.0),
        flip: float = 0.5,
        jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
        jitter_prob: float = 0.8,
        grey: float = 0.2,
    ) -> Tensor:
        """One random view of each image.

        Args:
            image (Tensor): float32, shape ``(B, 3, H, W)``, within 0 to 255.
            scale (tuple[float, float]): Range of the share of the area that is cropped.
            flip (float): Probability of a horizontal flip.
            jitter (tuple[float, ...]): Brightness, contrast, saturation and hue, as for
                torchvision's ``ColorJitter``.
            jitter_prob (float): Probability of the jitter.
            grey (float): Probability of a grey image.
        """
        crop = self._crop(image, scale, flip)
        if not (jitter_prob or grey):
            return crop
        matrix, offset = _colour_map(crop, jitter, jitter_prob, grey)
        return torch.baddbmm(offset, matrix, crop.flatten(2)).view_as(crop).clamp_(0, 255)

    def _crop(self, image: Tensor, scale: tuple[float, float], flip: float) -> Tensor:
        num = len(image)
        area = torch.empty(num).uniform_(*scale)
        ratio = torch.empty(num).uniform_(np.log(3 / 4), np.log(4 / 3)).exp()
        width = (area * ratio).sqrt().clamp(max=1)
        height = (area / ratio).sqrt().clamp(max=1)
        theta = torch.zeros(num, 2, 3)
        theta[:, 0, 0] = torch.where(torch.rand(num) < flip, -width, width)
        theta[:, 1, 1] = height
        theta[:, 0, 2] = (torch.rand(num) * 2 - 1) * (1 - width)
        theta[:, 1, 2] = (torch.rand(num) * 2 - 1) * (1 - height)
        shape = (num, 3, self.size, self.size)
        grid = F.affine_grid(theta, shape, align_corners=False).to(image.device)
        return F.grid_sample(image, grid, padding_mode='reflection', align_corners=False)


def _colour_map(
    image: Tensor, jitter: tuple[float, ...], jitter_prob: float, grey: float
) -> tuple[Tensor, Tensor]:
    """Matrix (B, 3, 3) and offset (B, 3, 1) of a random change of colour of each image."""
    num, eye = len(image), torch.eye(3)
    changed = (torch.rand(num) < jitter_prob).float()
    brightness, contrast, saturation = (
        1 + changed * torch.empty(num).uniform_(-limit, limit) for limit in jitter[:3]
    )
    angle = changed * torch.empty(num).uniform_(-jitter[3], jitter[3]) * 2 * np.pi
    saturation = torch.where(torch.rand(num) < grey, 0.0, saturation)

    rotation = torch.zeros(num, 3, 3)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 1, 2], rotation[:, 2, 1] = -angle.sin(), angle.sin()
    matrix = torch.linalg.inv(RGB_TO_YIQ) @ rotation @ RGB_TO_YIQ
    # Between the colour and its grey; the rows of `to_grey` are equal.
    to_grey = GREY.expand(3, 3)
    matrix = (eye * saturation[:, None, None] + to_grey * (1 - saturation[:, None, None])) @ matrix
    matrix = matrix * (brightness * contrast)[:, None, None]
    # Contrast moves colours away from the mean grey of the image.
    mean = (image.mean(dim=(2, 3)) @ GREY) * brightness
    offset = ((1 - contrast) * mean)[:, None, None].expand(num, 3, 1)
    return matrix.to(image), offset.to(image)
