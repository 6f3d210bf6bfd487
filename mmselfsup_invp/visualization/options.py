"""Options of a report."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..ops.checks import require_range


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Attributes:
        anchors (tuple[int, ...]): Indices of the training images whose positives are shown.
            Defaults to ``()``: ``num_anchors`` are sampled.
        num_anchors (int): Number of images to sample. Defaults to 4.
        data_root (str | None): Folder of the data set. Defaults to None, the one in the config.
        max_images (int): Number of images to sample from a larger data set. Defaults to 50,000.
        seed (int): Random seed. Defaults to 0.
        device (str): Device of the network. Defaults to ``'cpu'``.
    """

    anchors: tuple[int, ...] = ()
    num_anchors: int = 4
    data_root: str | None = None
    max_images: int = 50_000
    seed: int = 0
    device: str = 'cpu'

    def __post_init__(self) -> None:
        require_range('max_images', self.max_images, 1, 2**31, 'an image is needed')

    def generator(self) -> torch.Generator:
        """Return a new generator; with one for each section, sections do not affect each other."""
        return torch.Generator().manual_seed(self.seed)


def require_device(name: str | None) -> str:
    """Check a device; None selects a GPU if there is one and the CPU otherwise."""
    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'The device {name!r} cannot be used here: {reason}') from error
    return name


def require_folder(path: str | Path | None) -> str | None:
    """Check that the folder of ``--data`` exists; None is returned unchanged."""
    if path is not None and not Path(path).is_dir():
        raise FileNotFoundError(f'There is no folder {path} for --data.')
    return None if path is None else str(path)
