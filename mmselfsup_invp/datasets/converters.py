"""Write digits, CIFAR and SVHN as the image folders that the configs read.

The layout is ``ROOT/{train,test}/CLASS/00000.png`` with lists ``ROOT/meta/{train,test}.txt`` of
lines ``CLASS/00000.png LABEL``. The list of a split is written last and atomically: an interrupted
conversion is repeated, and a split whose list exists is kept. ``meta/source.json`` holds the name
of the data set, so that no other one is written into the same folder.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from torch.utils.data import Dataset
from torchvision import datasets

from .files import write_whole

PathLike = str | Path
Images = Iterable[tuple[Image.Image, int]]

SOURCE = 'meta/source.json'
PARTS = ('train', 'test', 'meta')
DIGITS = [str(number) for number in range(10)]


def write_split(root: PathLike, split: str, samples: Images, classes: Sequence[str]) -> int:
    """Write the images of a split and its list, and return their number.

    ``samples`` are images and labels, ``classes`` the folder name of each label.
    """
    root = Path(root)
    for name in classes:
        (root / split / name).mkdir(parents=True, exist_ok=True)
    lines = []
    total = len(samples) if hasattr(samples, '__len__') else None
    for number, (image, label) in track(enumerate(samples), f'{root.name}/{split}', total=total):
        path = f'{classes[label]}/{number:05d}.png'
        image.save(root / split / path)
        lines.append(f'{path} {label}\n')
    write_whole(root / 'meta' / f'{split}.txt', ''.join(lines))
    return len(lines)


def has_split(root: PathLike, split: str) -> bool:
    """Whether a split was written completely."""
    return (Path(root) / 'meta' / f'{split}.txt').is_file()


def check_folder(root: PathLike, name: str) -> None:
    """Raise a ValueError if a folder holds images or lists of another data set than ``name``."""
    root = Path(root)
    found = [part for part in PARTS if (root / part).exists()]
    note = root / SOURCE
    source = json.loads(note.read_text())['name'] if note.is_file() else None
    if found and source != name:
        raise ValueError(
            f'{root} holds other data ({", ".join(found)}; {SOURCE} says {source or "nothing"}, '
            f'not {name}). Choose an empty folder, or delete these if they are not needed.'
        )


def claim_folder(root: PathLike, name: str) -> None:
    """Reserve a folder for a data set by ``meta/source.json``, unless it holds other data."""
    check_folder(root, name)
    if not (Path(root) / SOURCE).is_file():
        write_whole(Path(root) / SOURCE, json.dumps(dict(name=name)) + '\n')


def convert_digits(root: PathLike) -> dict[str, int]:
    """Write scikit-learn's handwritten digits (UCI): 1,797 grey images of 8 x 8 pixels.

    Every fifth image belongs to the test split. Nothing is downloaded. Returns the number of images
    of each split that was written; complete splits are kept. A folder with other data raises
    ``ValueError``.
    """
    return _convert('digits', root, _read_digits)


def convert_torchvision(name: str, source: PathLike, root: PathLike) -> dict[str, int]:
    """Write ``'cifar10'``, ``'cifar100'`` or ``'svhn'`` from torchvision's download in ``source``.

    Missing files are downloaded. Returns the number of images of each split that was written;
    complete splits are kept.

    Raises:
        ValueError: If the name is unknown, or the folder holds other data.
        FileNotFoundError: If the files are missing and the download fails.
    """
    if name not in READERS:
        raise ValueError(f'name = {name!r} is unknown; valid: {", ".join(READERS)}.')
    return _convert(name, root, partial(READERS[name], Path(source)))


def _convert(
    name: str, root: PathLike, read: Callable[[str], tuple[Images, Sequence[str]]]
) -> dict[str, int]:
    """Write the missing splits; ``read`` gives the samples and the classes of a split."""
    check_folder(root, name)
    written = {}
    for split in ('train', 'test'):
        if not has_split(root, split):
            samples, classes = read(split)
            claim_folder(root, name)
            written[split] = write_split(root, split, samples, classes)
    return written


def _read_digits(split: str) -> tuple[Images, Sequence[str]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    chosen = (np.arange(len(pixels)) % 5 == 4) == (split == 'test')
    images = map(Image.fromarray, pixels[chosen])
    return list(zip(images, digits.target[chosen], strict=True)), DIGITS


def _read_cifar(dataset: type, source: Path, split: str) -> tuple[Dataset, Sequence[str]]:
    images = _torchvision(dataset, source, dataset.url, train=split == 'train')
    return images, images.classes


def _read_svhn(source: Path, split: str) -> tuple[Dataset, Sequence[str]]:
    url = datasets.SVHN.split_list[split][0]
    return _torchvision(datasets.SVHN, source, url, split=split), DIGITS


READERS: dict[str, Callable[[Path, str], tuple[Dataset, Sequence[str]]]] = {
    'cifar10': partial(_read_cifar, datasets.CIFAR10),
    'cifar100': partial(_read_cifar, datasets.CIFAR100),
    'svhn': _read_svhn,
}


def _torchvision(dataset: type, source: Path, url: str, **split: object) -> Dataset:
    """Open a data set of torchvision, which checks MD5 sums; download it if it is missing."""
    try:
        return dataset(str(source), **split)
    except RuntimeError:  # Missing or corrupt.
        pass
    try:
        return dataset(str(source), download=True, **split)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f'{dataset.__name__} is not in {source} and the download failed ({error}). Download '
            f'{url} yourself and put it into {source}.'
        ) from error
