"""Readers of data sets in class folders: ImageNet, its subsets, and custom images."""

import csv
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from torchvision.datasets import imagenet as tv_imagenet

from ..files import listed, printable, shorten
from ..image_files import EXTENSIONS
from ..subsets import draw_per_class
from .data_set import Contents, Sample
from .lists import read_list
from .readers import split

DEVKIT = tv_imagenet.ARCHIVE_META['devkit'][0]
KAGGLE_LABELS = 'LOC_val_solution.csv'
VAL_LABELS = (DEVKIT, KAGGLE_LABELS, 'meta/val.txt', 'val/n[0-9]*')  # Any of them will do.
#: The lists that SimCLR published, which InterCLR and most later papers use.
SIMCLR_LISTS = 'https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets/'


def _images(folder: Path) -> list[str]:
    """Names of the images in a folder, sorted; hidden files are skipped."""
    return _chosen(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _chosen(names: Iterable[str]) -> list[str]:
    return sorted(n for n in names if n.lower().endswith(EXTENSIONS) and n[0] != '.')


def _classes(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are skipped."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != '.')


def _class_images(folder: Path, classes: Iterable[str], prefix: str = '') -> list[Sample]:
    """Images of class folders; ``prefix`` goes before their paths relative to ``folder``."""
    return [
        (f'{prefix}{name}/{image}', label)
        for label, name in enumerate(classes)
        for image in _images(folder / name)
    ]


def read_imagenet(root: Path) -> Contents:
    """ImageNet (ILSVRC 2012); a label is the position of the WordNet id in sorted order.

    Validation images are in class folders, or in one folder with the labels of a list
    ``meta/val.txt``, of Kaggle's ``LOC_val_solution.csv`` or of the development kit.
    """
    wnids = _classes(root / 'train')
    val = _class_images(root / 'val', wnids) or _flat_val(root, wnids)
    return Contents(dict(train=_class_images(root / 'train', wnids), val=val), wnids)


def _flat_val(root: Path, wnids: list[str]) -> list[Sample]:
    """Images of a ``val`` folder without class folders."""
    names = _images(root / 'val')
    if not names:
        return []
    if (root / 'meta' / 'val.txt').is_file():
        return read_list(root / 'meta' / 'val.txt')
    if (root / KAGGLE_LABELS).is_file():
        with (root / KAGGLE_LABELS).open(newline='') as file:
            rows = list(csv.DictReader(file))
        truth = {f'{row["ImageId"]}.JPEG': row['PredictionString'].split()[0] for row in rows}
    else:
        numbered = enumerate(_devkit_wnids(root), 1)
        truth = {f'ILSVRC2012_val_{number:08d}.JPEG': wnid for number, wnid in numbered}
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    # A subset of ImageNet has fewer classes; images of the others are left out.
    return [(name, labels[truth[name]]) for name in names if truth.get(name) in labels]


def _devkit_wnids(root: Path) -> list[str]:
    """WordNet ids of the validation images, from the development kit."""
    if not (root / DEVKIT).is_file():
        raise FileNotFoundError(
            f'{root / "val"} holds images without class folders, and their labels are missing. Put '
            f'{DEVKIT} or {KAGGLE_LABELS} into {root}, or a list meta/val.txt of lines '
            "'ILSVRC2012_val_00000001.JPEG 65'."
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            tv_imagenet.parse_devkit_archive(folder, str((root / DEVKIT).resolve()))
        except RuntimeError as error:
            raise ValueError(
                f'{root / DEVKIT} is not the published file: its MD5 sum is not '
                f'{tv_imagenet.ARCHIVE_META["devkit"][1]}. Download it again.'
            ) from error
        return tv_imagenet.load_meta_file(folder)[1]


def read_subset(root: Path, percent: int, subset_list: Path | None, seed: int) -> Contents:
    """Choose images of ImageNet's training list for semi-supervised learning.

    With a list of image names (``n01440764_10026.JPEG``), the images are in its order. Otherwise
    ``ceil(percent / 100 * n)`` of the n images of each class are drawn uniformly without
    replacement, as in InvP's code (which sets no seed), and keep their order.
    """
    if not (root / 'meta' / 'train.txt').is_file():
        raise FileNotFoundError(
            f'{root / "meta" / "train.txt"} is missing. Prepare ImageNet first: '
            'python tools/prepare_data.py imagenet'
        )
    samples = read_list(root / 'meta' / 'train.txt')
    if subset_list is None:
        labels = [label for _, label in samples]
        chosen, _ = split(samples, draw_per_class(labels, lambda n: -(-percent * n // 100), seed))
        drawn: dict[str, object] = dict(source='random', seed=seed)
    else:
        chosen = _listed(samples, subset_list)
        drawn = dict(source=subset_list.name, seed=None)
    return Contents(dict(train=chosen), selection=dict(drawn, count=len(chosen)))


def _listed(samples: list[Sample], subset_list: Path) -> list[Sample]:
    """The samples that a list names, in its order."""
    if not subset_list.is_file():
        raise FileNotFoundError(
            f'{subset_list} does not exist. SimCLR published 1percent.txt and 10percent.txt at '
            f'{SIMCLR_LISTS} (imagenet2012_subset in tensorflow_datasets). Without --subset-list '
            'the images are drawn at random.'
        )
    names = subset_list.read_text().split()
    known = {path.rsplit('/', 1)[-1]: (path, label) for path, label in samples}
    unknown = [name for name in names if name not in known]
    duplicates = len(names) - len(set(names))
    if unknown or duplicates or not names:
        raise ValueError(
            f'{subset_list} lists {len(names):,} images, {duplicates:,} of them more than once and '
            f'{len(unknown):,} that are not in meta/train.txt. A line is an image name such as '
            f"'n01440764_10026.JPEG'.\n{shorten(unknown)}".rstrip()
        )
    return [known[name] for name in names]


def read_custom(root: Path, seed: int = 0, test_percent: int = 20) -> Contents:
    """Custom images in class folders: ``{train,test}/CLASS``, ``train/CLASS`` or ``CLASS``.

    The test folder may be named ``val`` as well. Without one, ``test_percent`` % of each class
    (rounded up, but not its only image) are drawn for the test split. Images elsewhere in the
    folder are left out; the entry ``ignored`` of the selection says how many, and where.

    Raises:
        FileNotFoundError: If there are no class folders.
        ValueError: If a class folder holds no image, or a class is in the test folder alone.
    """
    test = next((name for name in ('test', 'val') if (root / name).is_dir()), None)
    prefix = 'train/' if test is not None or (root / 'train').is_dir() else ''
    classes = _custom_classes(root / prefix, root)
    samples = _class_images(root / prefix, classes, prefix)
    _require_images(root / prefix, classes, {label for _, label in samples})
    if test is not None:
        _require_known(root / test, classes)
        splits = dict(train=samples, test=_class_images(root / test, classes, f'{test}/'))
        selection: dict[str, object] = dict(split='folders')
    else:
        labels = [label for _, label in samples]
        # A class with one image keeps it for training.
        drawn = draw_per_class(labels, lambda n: min(-(-test_percent * n // 100), n - 1), seed)
        held_out, train = split(samples, drawn)
        splits = dict(train=train, test=held_out)
        selection = dict(split='random', test_percent=test_percent, seed=seed)
    ignored = _ignored(root, splits['train'] + splits['test'])
    return Contents(splits, classes, selection | (dict(ignored=ignored) if ignored else {}))


def _custom_classes(folder: Path, root: Path) -> list[str]:
    """Names of the class folders."""
    names = _classes(folder) if folder.is_dir() else []
    if folder == root:  # It holds the lists as well.
        names = [name for name in names if name != 'meta']
    if not names:
        flat = ' Its images have no class.' if _images(folder) else ''
        raise FileNotFoundError(
            f'{folder} has no class folders.{flat} Create a folder for each class in '
            f'{root / "train"}, and optionally the same ones in {root / "test"}, and move the '
            'images there. Training without labels needs no preparation: see docs/en/own_data.md.'
        )
    return names


def _require_images(folder: Path, classes: list[str], found: set[int | None]) -> None:
    """Raise unless every class folder holds an image."""
    empty = [printable(name) for label, name in enumerate(classes) if label not in found]
    if empty:
        raise ValueError(
            f'{folder} has class folders without an image: {listed(empty)}. Images must lie '
            f'directly in the folder of their class, with names that end in '
            f'{", ".join(EXTENSIONS)}. Put some there, or move these folders elsewhere.'
        )


def _require_known(test: Path, classes: list[str]) -> None:
    """Raise if the test folder holds images of other classes."""
    others = {name: len(_images(test / name)) for name in _classes(test) if name not in classes}
    unknown = [f'{printable(name)} ({count} images)' for name, count in others.items() if count]
    if unknown:
        raise ValueError(
            f'{test} has classes without training images: {listed(unknown)}. The classes of '
            f'{test.parent / "train"} are {listed([*map(printable, classes)])}. Put training '
            'images into a folder of the same name there (upper and lower case differ), or move '
            'the test images elsewhere.'
        )


def _ignored(root: Path, samples: list[Sample]) -> str:
    """Number of images that are no samples, in all and in each folder; an empty string if none."""
    taken = {os.path.realpath(root / name) for name in {os.path.dirname(p) for p, _ in samples}}
    found: dict[str, int] = {}
    visited = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # Links may lead to a folder twice, or to a parent.
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if name[0] != '.')
        count = len(_chosen(names))
        if count and real not in taken:
            found[printable(os.path.relpath(folder, root))] = count
    places = listed([f'{count:,} in {folder}' for folder, count in found.items()])
    return f'{sum(found.values()):,} ({places})' if found else ''
