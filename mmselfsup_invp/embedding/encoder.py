"""Network of a checkpoint that turns images into features."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmselfsup.registry import MODELS
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..datasets.transforms import UnreadableImage
from ..evaluation import read_backbone
from ..evaluation.centre_view import centre_view
from ..evaluation.checkpoints import digest
from ..export.network import build_network
from ..registry import SCOPE


class Batch(NamedTuple):
    """Features of some images.

    Attributes:
        rows (list[int]): Positions of the images among the given paths.
        features (Tensor): float32, unit rows, shape ``(B, D)``, on the CPU.
        unreadable (dict[int, str]): Why an image cannot be read, by its position.
    """

    rows: list[int]
    features: Tensor
    unreadable: dict[int, str]


class Encoder:
    """Backbone of a checkpoint, globally pooled: the features of the kNN protocol.

    Nothing in the checkpoint is executed. The images are loaded upright, get the centre view of the
    training config (:func:`~mmselfsup_invp.evaluation.centre_view.centre_view`) and the
    normalisation of training.

    Args:
        checkpoint (str | Path): ``epoch_*.pth`` of a pre-training run, of any method.
        size (int, optional): Edge of the square view in pixels. Defaults to None, the training
            size.
        device (str, optional): Defaults to None, a GPU if there is one.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the checkpoint cannot be read, or its config has no size of a view.

    Example:
        >>> encoder = Encoder('work_dirs/invp/epoch_200.pth')  # doctest: +SKIP
        >>> encoder.dimensions  # doctest: +SKIP
        2048
    """

    def __init__(
        self, checkpoint: str | Path, size: int | None = None, device: str | None = None
    ) -> None:
        self.backbone = read_backbone(checkpoint)
        self.view = centre_view(self.backbone.run, size)
        self.device = torch.device(device or get_device())
        self.network = build_network(self.backbone).module.to(self.device)
        preprocessor = self.backbone.preprocessor_config()
        with DefaultScope.overwrite_default_scope(SCOPE):
            self.preprocessor = MODELS.build(preprocessor).to(self.device)
        edge = max(self.view[-1]['transforms'][-1]['size'])
        self.dimensions = self(torch.zeros(1, 3, edge, edge, dtype=torch.uint8)).size(1)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Unit features, float32, ``(B, D)``, of images in BGR, uint8, ``(B, 3, H, W)``."""
        inputs = self.preprocessor(dict(inputs=images))['inputs']
        with _reproducible():
            maps = self.network(inputs)[-1].float()
        return F.normalize(F.adaptive_avg_pool2d(maps, 1).flatten(1))

    @property
    def key(self) -> str:
        """Hash of what determines the features of an image: network, normalisation and view."""
        return digest([self.backbone.fingerprint(), self.view])

    def batches(
        self, paths: Sequence[str], batch_size: int = 64, num_workers: int = 0
    ) -> Iterator[Batch]:
        """Features of images in the order of their paths, batch by batch."""
        loader = DataLoader(
            _Images(paths, self.view),
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=_collate,
        )
        for rows, images, unreadable in loader:
            features = self(images).cpu() if rows else torch.empty(0, self.dimensions)
            yield Batch(rows, features, unreadable)


class _Images(Dataset):
    """Views of images, or why an image cannot be read."""

    def __init__(self, paths: Sequence[str], view: list[dict]) -> None:
        self.paths = paths
        with DefaultScope.overwrite_default_scope(SCOPE):
            self.transform = Compose([dict(type='LoadImage'), *view])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[int, Tensor | str]:
        try:
            (view,) = self.transform(dict(img_path=self.paths[row], sample_idx=row))['img']
        except UnreadableImage as error:
            return row, str(error.__cause__)
        return row, torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))


def _collate(samples: list[tuple[int, Tensor | str]]) -> tuple[list[int], Tensor, dict[int, str]]:
    readable = {row: view for row, view in samples if isinstance(view, Tensor)}
    images = torch.stack([*readable.values()]) if readable else torch.empty(0)
    return [*readable], images, {row: view for row, view in samples if row not in readable}


@contextmanager
def _reproducible() -> Iterator[None]:
    """Let cuDNN choose the same algorithms in float32 in every call."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
