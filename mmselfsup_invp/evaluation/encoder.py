"""Network of a checkpoint that turns images into features."""

import os
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
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..compat.host import MODELS
from ..datasets.files import printable
from ..datasets.preparation.images import image_error
from ..datasets.transforms import UnreadableImage
from ..registry import SCOPE
from .centre_view import centre_view
from .checkpoints import PretrainedBackbone, digest, read_backbone
from .network import build_backbone

# Below, starting worker processes takes longer than reading the images.
FEW_IMAGES = 256


class Batch(NamedTuple):
    """Features of some images: float32, unit rows, ``(B, D)``, on the CPU.

    ``rows`` are the positions of the images among the given paths; ``unreadable`` says why an image
    cannot be read, by its position.
    """

    rows: list[int]
    features: Tensor
    unreadable: dict[int, str]


class Encoder:
    """Backbone of a checkpoint, globally pooled: the features of the kNN protocol.

    Nothing in the checkpoint is executed. The images are loaded upright, get the centre view of the
    training config (:func:`~mmselfsup_invp.evaluation.centre_view.centre_view`) and the
    normalisation of training.

    Attributes:
        backbone (PretrainedBackbone): Weights and config of the checkpoint.
        view (list[dict]): Configs of the transforms of an image.
        device (torch.device): Where the network is.
        dimensions (int): D, the length of a feature.
        key (str): Hash of what determines the feature of an image: network, normalisation and
            view.

    Args:
        checkpoint (str | Path | PretrainedBackbone): ``epoch_*.pth`` of a pre-training run, of any
            method.
        size (int, optional): Edge of the square view in pixels. Defaults to None, the training
            size.
        device (str, optional): Defaults to None, a GPU if there is one.
        random_init (bool): Whether the network keeps its initial weights. Defaults to False.
        seed (int): Seed of the initial weights. Defaults to 0.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the checkpoint cannot be read, its config has no size of a view, or a weight
            is not finite.

    Example:
        >>> encoder = Encoder('work_dirs/invp/epoch_200.pth')  # doctest: +SKIP
        >>> encoder.dimensions  # doctest: +SKIP
        2048
    """

    def __init__(
        self,
        checkpoint: str | Path | PretrainedBackbone,
        size: int | None = None,
        device: str | None = None,
        random_init: bool = False,
        seed: int = 0,
    ) -> None:
        read = isinstance(checkpoint, PretrainedBackbone)
        self.backbone = checkpoint if read else read_backbone(checkpoint)
        self.backbone.require_finite()
        self.view = centre_view(self.backbone.run, size)
        self.device = torch.device(device or get_device())
        self.network = build_backbone(self.backbone, random_init, seed).to(self.device)
        with DefaultScope.overwrite_default_scope(SCOPE):
            preprocessor = MODELS.build(self.backbone.preprocessor_config())
        self.preprocessor = preprocessor.to(self.device)
        seeds = seed if random_init else None
        self.key = digest([self.backbone.fingerprint(random_init), seeds, self.view])
        self.dimensions = self(torch.zeros(1, 3, *self.size, dtype=torch.uint8)).size(1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the view."""
        return tuple(self.view[-1]['transforms'][-1]['size'])

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Unit features, float32, ``(B, D)``, of images in BGR, uint8, ``(B, 3, H, W)``."""
        inputs = self.preprocessor(dict(inputs=images))['inputs']
        with _reproducible():
            maps = self.network(inputs)[-1].float()
        return F.normalize(F.adaptive_avg_pool2d(maps, 1).flatten(1))

    def batches(
        self, paths: Sequence[str], batch_size: int = 64, num_workers: int | None = None
    ) -> Iterator[Batch]:
        """Features of images in the order of their paths, batch by batch, with a progress bar.

        ``num_workers`` processes read images; by default none for fewer than 256 images, else one
        for each core, 8 at most.
        """
        if num_workers is None:
            num_workers = min(os.cpu_count() or 1, 8) if len(paths) >= FEW_IMAGES else 0
        loader = DataLoader(
            _Images(paths, self.view),
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=_collate,
        )
        progress = track(loader, 'features', transient=True, disable=len(loader) < 2)
        for rows, images, unreadable in progress:
            features = self(images).cpu() if rows else torch.empty(0, self.dimensions)
            yield Batch(rows, features, unreadable)

    def features(self, paths: Sequence[str], num_workers: int | None = None) -> np.ndarray:
        """Features of images in memory, float32, ``(N, D)``; an unreadable image is a
        ``ValueError``.
        """
        features = np.empty((len(paths), self.dimensions), np.float32)
        batches = self.batches(paths, num_workers=num_workers)
        for batch in batches:
            for row, reason in batch.unreadable.items():
                raise ValueError(
                    f'Cannot read the image {printable(paths[row])} ({reason}). Restore or remove '
                    'it.'
                )
            features[batch.rows] = batch.features.numpy()
        return features


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
            # The decoder may not say more than that it returned nothing.
            return row, image_error(self.paths[row]) or str(error.__cause__)
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
