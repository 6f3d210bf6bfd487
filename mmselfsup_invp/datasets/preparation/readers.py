"""Readers of data sets in the layout of their official archives.

torchvision parses the annotations wherever it has the data set. It expects a folder of its own
name, which is linked for the time of reading.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from torchvision import datasets

from ..converters import convert_torchvision
from ..subsets import draw_per_class
from .data_set import Contents, Sample
from .lists import read_list


@contextmanager
def _linked(root: Path, name: str) -> Iterator[Path]:
    """Link a folder under the name that torchvision expects, and explain torchvision's errors."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / name
        link.symlink_to(root.resolve(), target_is_directory=True)
        try:
            yield link
        except FileNotFoundError as error:
            path = str(error.filename).replace(str(link), str(root))
            raise FileNotFoundError(error.errno, error.strerror, path) from error
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f'The annotations in {root} are damaged: torchvision cannot read them ({error}). '
                'Delete them and get them again.'
            ) from error


def _samples(paths: Iterable[PathLike], labels: Iterable[int], link: Path) -> list[Sample]:
    """Paths relative to a link, and labels."""
    return [
        (Path(path).relative_to(link).as_posix(), int(label))
        for path, label in zip(paths, labels, strict=True)
    ]


def read_pets(root: Path) -> Contents:
    """Oxford-IIIT Pet: ``trainval`` to train, ``test`` to test."""
    with _linked(root, 'oxford-iiit-pet') as link:
        train, test = (datasets.OxfordIIITPet(str(link.parent), s) for s in ('trainval', 'test'))
        splits = dict(
            train=_samples(train._images, train._labels, link),
            test=_samples(test._images, test._labels, link),
        )
    return Contents(splits, train.classes)


def read_flowers(root: Path) -> Contents:
    """Oxford Flowers 102: the training and the validation split to train."""
    with _linked(root, 'flowers-102') as link:
        parts = {s: datasets.Flowers102(str(link.parent), s) for s in ('train', 'val', 'test')}
        found = {s: _samples(part._image_files, part._labels, link) for s, part in parts.items()}
    splits = dict(train=found['train'] + found['val'], test=found['test'])
    # Old versions of torchvision have no names.
    numbers = [str(number) for number in range(1, 103)]
    return Contents(splits, list(getattr(datasets.Flowers102, 'classes', numbers)))


def read_cars(root: Path) -> Contents:
    """Stanford Cars: the official splits."""
    with _linked(root, 'stanford_cars') as link:
        parts = {s: datasets.StanfordCars(str(link.parent), s) for s in ('train', 'test')}
        splits = {s: _samples(*zip(*part._samples, strict=True), link) for s, part in parts.items()}
    return Contents(splits, list(parts['train'].classes))


def read_caltech101(root: Path, seed: int = 0, train_per_class: int = 30) -> Contents:
    """Caltech-101 without the background class: 30 random images of each class to train.

    The data set has no official split; this is the common one for transfer (SimCLR, Chen et al.,
    ICML 2020, appendix B.8), which counts the background as one more class.
    """
    with _linked(root, 'caltech101') as link:
        found = datasets.Caltech101(str(link.parent))
    classes, labels = found.categories, found.y
    samples = [
        (f'101_ObjectCategories/{classes[label]}/image_{number:04d}.jpg', label)
        for number, label in zip(found.index, labels, strict=True)
    ]
    for label, name in enumerate(classes):
        if labels.count(label) <= train_per_class:
            raise ValueError(
                f'{root / "101_ObjectCategories" / name} holds {labels.count(label)} images; '
                f'{train_per_class} to train and at least one to test are needed. Delete the '
                'folder, so that the archive is unpacked again.'
            )
    train, test = split(samples, draw_per_class(labels, lambda _: train_per_class, seed))
    drawn = dict(split='random', train_per_class=train_per_class, seed=seed)
    return Contents(dict(train=train, test=test), classes, drawn)


def split(samples: Sequence[Sample], drawn: Iterable[int]) -> tuple[list[Sample], list[Sample]]:
    """The samples at the drawn positions, and the others; both keep their order."""
    drawn = set(drawn)
    chosen = [sample for row, sample in enumerate(samples) if row in drawn]
    return chosen, [sample for row, sample in enumerate(samples) if row not in drawn]


def read_voc(root: Path, year: int, splits: Sequence[str]) -> Contents:
    """PASCAL VOC in ``VOCdevkit``: images without labels, which the configs read from the XML."""
    found = {}
    for name in splits:
        with _linked(root, 'VOCdevkit') as link:
            part = datasets.VOCDetection(str(link.parent), str(year), name)
            missing = [Path(path) for path in part.annotations if not Path(path).is_file()]
        if missing:
            folder = root / f'VOC{year}'
            raise FileNotFoundError(
                f'{len(missing):,} of {len(part):,} annotations of {name} are missing in '
                f'{folder / "Annotations"}, the first is {missing[0].name}. Delete {folder}, so '
                'that the archives are unpacked again.'
            )
        found[name] = [(Path(path).name, None) for path in part.images]
    return Contents(found)


def read_places205(root: Path) -> Contents:
    """Places205: the official lists, whose paths begin with the class (``a/abbey/``)."""
    folder = root / 'trainvalsplit_places205'
    splits = {name: read_list(folder / f'{name}_places205.csv') for name in ('train', 'val')}
    names = _folders(splits)
    return Contents(splits, [name.split('/', 1)[1] for name in names])


def read_cifar(root: Path, name: str) -> Contents:
    """CIFAR: written as PNG files, with their lists, from the unpacked archive."""
    convert_torchvision(name, root, root)
    splits = {name: read_list(root / 'meta' / f'{name}.txt') for name in ('train', 'test')}
    return Contents(splits, _folders(splits))


def _folders(splits: dict[str, list[Sample]]) -> list[str]:
    """Folder of each label, in the order of the labels."""
    names = {label: path for samples in splits.values() for path, label in samples}
    return [names[label].rsplit('/', 1)[0] for label in sorted(names)]
