"""Write small data sets as the image folders that the configs read.

The layout is ``ROOT/{train,test}/CLASS/00000.png`` with lists ``ROOT/meta/{train,test}.txt`` of
lines ``CLASS/00000.png LABEL``. A split's list is written last, in one step, so that a conversion
cut short is never mistaken for a whole one; a list that is there is believed. ``meta/source.json``
says which data set it is, so that no other is written into its folders.
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

SOURCE = 'meta/source.json'
PARTS = ('train', 'test', 'meta')
# Images of the splits, by which folders are known that were written without a note.
SIZES = {
    'digits': dict(train=1438, test=359),
    'cifar10': dict(train=50_000, test=10_000),
    'cifar100': dict(train=50_000, test=10_000),
    'svhn': dict(train=73_257, test=26_032),
}


def write_split(
    root: PathLike, split: str, samples: Iterable[tuple[Image.Image, int]], classes: Sequence[str]
) -> int:
    """Write one split and its list.

    Args:
        root (str | Path): Folder of the data set, made if it is not there.
        split (str): Name of the split.
        samples (Iterable[tuple[Image, int]]): Images and labels.
        classes (Sequence[str]): Folder name of each label.

    Returns:
        int: Images written.
    """
    root = Path(root)
    for name in classes:
        (root / split / name).mkdir(parents=True, exist_ok=True)
    lines = []
    numbered = track(enumerate(samples), f'{root.name}/{split}', total=_length(samples))
    for number, (image, label) in numbered:
        path = f'{classes[label]}/{number:05d}.png'
        image.save(root / split / path)
        lines.append(f'{path} {label}\n')
    write_whole(root / 'meta' / f'{split}.txt', ''.join(lines))
    return len(lines)


def _length(samples: Iterable) -> int | None:
    return len(samples) if hasattr(samples, '__len__') else None


def has_split(root: PathLike, split: str) -> bool:
    """Tell whether a split was written to its end."""
    return (Path(root) / 'meta' / f'{split}.txt').is_file()


def take_folder(root: PathLike, name: str) -> None:
    """Make a folder that of a data set, before anything is written into it.

    Args:
        root (str | Path): The folder, made if it is not there.
        name (str): Name of the data set.

    Raises:
        ValueError: If it holds other data.

    Example:
        >>> take_folder('data/digits', 'digits')  # doctest: +SKIP
    """
    require_own(root, name)
    if not (Path(root) / SOURCE).is_file():
        write_whole(Path(root) / SOURCE, json.dumps(dict(name=name)) + '\n')


def require_own(root: PathLike, name: str) -> None:
    """Raise unless a folder holds a data set, in part or whole, or no images.

    Args:
        root (str | Path): The folder. Archives in it do not matter.
        name (str): Name of the data set.

    Raises:
        ValueError: If it holds other data; the message says what to do.
    """
    root = Path(root)
    found = [part for part in PARTS if (root / part).exists()]
    source = _source(root)
    if not found or source == name or (source is None and _sizes(root) == SIZES[name]):
        return
    raise ValueError(
        f'{root} holds other data ({", ".join(found)}; {SOURCE} says {source or "nothing"}, not '
        f'{name}). Name an empty folder. If it is an unfinished conversion of {name}, delete these.'
    )


def _source(root: Path) -> str | None:
    """What the note says, if it is there."""
    return json.loads((root / SOURCE).read_text())['name'] if (root / SOURCE).is_file() else None


def _sizes(root: Path) -> dict[str, int]:
    """Lines of the lists that are there."""
    lists = {split: root / 'meta' / f'{split}.txt' for split in ('train', 'test')}
    return {
        split: len(path.read_text().splitlines()) for split, path in lists.items() if path.is_file()
    }


def convert_digits(root: PathLike) -> dict[str, int]:
    """Write the handwritten digits that ship inside scikit-learn: 1,797 grey images of 8 x 8.

    Every fifth image is a test image. Nothing is downloaded (source: UCI, Alpaydin and Kaynak).

    Args:
        root (str | Path): Folder of the data set.

    Returns:
        dict[str, int]: Images of the splits written; a split that is there is left alone.

    Raises:
        ValueError: If the folder holds other data.
    """
    from sklearn.datasets import load_digits

    take_folder(root, 'digits')
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    is_test = np.arange(len(pixels)) % 5 == 4
    written = {}
    for split, chosen in (('train', ~is_test), ('test', is_test)):
        if not has_split(root, split):
            samples = list(
                zip(map(Image.fromarray, pixels[chosen]), digits.target[chosen], strict=True)
            )
            written[split] = write_split(root, split, samples, [str(n) for n in range(10)])
    return written


def _torchvision(dataset: type, source: Path, **split: object) -> Dataset:
    """Open a data set of torchvision, downloading it where that is needed and possible."""
    try:
        return dataset(str(source), **split)
    except RuntimeError:
        pass  # Not there, or not whole.
    try:
        return dataset(str(source), download=True, **split)
    except (OSError, RuntimeError) as error:
        address = getattr(dataset, 'url', None) or dataset.split_list[split['split']][0]
        raise FileNotFoundError(
            f'{dataset.__name__} is not in {source} and cannot be downloaded ({error}). Fetch '
            f'{address} by other means and put it into {source}.'
        ) from error


def _read_cifar(dataset: type, source: Path, split: str) -> tuple[Dataset, list[str]]:
    images = _torchvision(dataset, source, train=split == 'train')
    return images, images.classes


def _read_svhn(source: Path, split: str) -> tuple[Dataset, list[str]]:
    return _torchvision(datasets.SVHN, source, split=split), [str(n) for n in range(10)]


READERS: dict[str, Callable[[Path, str], tuple[Dataset, list[str]]]] = {
    'cifar10': partial(_read_cifar, datasets.CIFAR10),
    'cifar100': partial(_read_cifar, datasets.CIFAR100),
    'svhn': _read_svhn,
}


def convert_torchvision(name: str, source: PathLike, root: PathLike) -> dict[str, int]:
    """Write CIFAR-10, CIFAR-100 or SVHN as folders, from what torchvision has downloaded.

    Args:
        name (str): ``'cifar10'``, ``'cifar100'`` or ``'svhn'``.
        source (str | Path): The folder torchvision downloaded to; for a missing archive the
            download is tried there.
        root (str | Path): Folder to write.

    Returns:
        dict[str, int]: Images of the splits written; a split that is there is left alone.

    Raises:
        ValueError: If the name is unknown, or the folder to write holds other data.
        FileNotFoundError: If the archive is neither there nor to be downloaded.
    """
    if name not in READERS:
        raise ValueError(f'name = {name!r} is unknown; valid: {", ".join(READERS)}.')
    require_own(root, name)
    written = {}
    for split in ('train', 'test'):
        if not has_split(root, split):
            samples, classes = READERS[name](Path(source), split)
            take_folder(root, name)
            written[split] = write_split(root, split, samples, classes)
    return written
