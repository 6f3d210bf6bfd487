"""Read the data sets with one label an image, each in the layout of its official archive."""

import csv
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from torchvision import datasets
from torchvision.datasets import imagenet as tv_imagenet

from .data_set import Contents, Sample
from .lists import parse_line

DEVKIT = 'ILSVRC2012_devkit_t12.tar.gz'
KAGGLE_TRUTH = 'LOC_val_solution.csv'
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # Those mmcls reads.


def images_in(folder: Path) -> list[Path]:
    """The images in a folder, in the order of their names."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith('.')
    )


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted."""
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')
    )


def folder_samples(root: Path, classes: Iterable[str]) -> list[Sample]:
    """Images of class folders, relative to the folder that holds these."""
    return [
        (f'{name}/{path.name}', label)
        for label, name in enumerate(classes)
        for path in images_in(root / name)
    ]


def split_by_class(
    samples: list[Sample], take: Mapping[int, int], seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Draw images of each class, uniformly and without replacement.

    Args:
        samples (list[Sample]): Images and labels.
        take (Mapping[int, int]): How many to draw of each label.
        seed (int): What is drawn depends on it and on ``samples`` alone.

    Returns:
        tuple[list[Sample], list[Sample]]: The drawn and the others, each in the old order.
    """
    random = np.random.default_rng(seed)
    members: dict[int, list[int]] = {}
    for index, (_, label) in enumerate(samples):
        members.setdefault(label, []).append(index)
    drawn = set()
    for label in sorted(members):
        drawn.update(random.choice(members[label], take[label], replace=False).tolist())
    chosen = [sample for index, sample in enumerate(samples) if index in drawn]
    return chosen, [sample for index, sample in enumerate(samples) if index not in drawn]


def class_sizes(samples: Iterable[Sample]) -> dict[int, int]:
    """How many images each label has."""
    labels, sizes = np.unique([label for _, label in samples], return_counts=True)
    return dict(zip(labels.tolist(), sizes.tolist(), strict=True))


def read_imagenet(root: Path) -> Contents:
    """ImageNet (ILSVRC 2012): a label is the position of the WordNet id among the sorted ids.

    Validation images lie in class folders, or flat with the labels of the development kit or of
    Kaggle's ``LOC_val_solution.csv``.
    """
    wnids = folders_in(root / 'train')
    val = folder_samples(root / 'val', wnids) or _flat_val(root, wnids)
    return Contents(dict(train=folder_samples(root / 'train', wnids), val=val), wnids)


def _flat_val(root: Path, wnids: list[str]) -> list[Sample]:
    """Images of a flat ``val`` folder."""
    names = [path.name for path in images_in(root / 'val')]
    if not names:
        return []
    if (root / 'meta' / 'val.txt').is_file():
        return [parse_line(line) for line in (root / 'meta' / 'val.txt').open()]
    if (root / KAGGLE_TRUTH).is_file():
        with (root / KAGGLE_TRUTH).open(newline='') as file:
            rows = list(csv.DictReader(file))
        truth = {f'{row["ImageId"]}.JPEG': row['PredictionString'].split()[0] for row in rows}
    else:
        truth = {
            f'ILSVRC2012_val_{number:08d}.JPEG': wnid
            for number, wnid in enumerate(_devkit_wnids(root), 1)
        }
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    # An image of an unknown class (a subset of ImageNet has fewer) is left out.
    return [(name, labels[truth[name]]) for name in names if truth.get(name) in labels]


def _devkit_wnids(root: Path) -> list[str]:
    """WordNet ids of the validation images."""
    if not (root / DEVKIT).is_file():
        raise FileNotFoundError(
            f'{root / "val"} holds images without class folders, and nothing in {root} tells '
            f'their labels. Put {DEVKIT} or {KAGGLE_TRUTH} there, or a list meta/val.txt of lines '
            "'ILSVRC2012_val_00000001.JPEG 65'."
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            tv_imagenet.parse_devkit_archive(folder, str((root / DEVKIT).resolve()))
        except RuntimeError as error:
            raise ValueError(
                f'{root / DEVKIT} is not the published file: its MD5 is not '
                f'{tv_imagenet.ARCHIVE_META["devkit"][1]}. Download it again.'
            ) from error
        return tv_imagenet.load_meta_file(folder)[1]


def read_places205(root: Path) -> Contents:
    """Places205: the lists of the archive, whose paths begin with the class (``a/abbey/``)."""
    splits, names = {}, {}
    for split in ('train', 'val'):
        lines = (root / 'trainvalsplit_places205' / f'{split}_places205.csv').read_text()
        splits[split] = [parse_line(line) for line in lines.splitlines() if line.strip()]
        names.update({label: path.rsplit('/', 1)[0] for path, label in splits[split]})
    return Contents(splits, [names[label].split('/', 1)[1] for label in sorted(names)])


def read_listed(root: Path) -> Contents:
    """Images of ``{train,test}/CLASS`` by the lists that are there already, as of CIFAR."""
    splits = {
        split: [parse_line(line) for line in (root / 'meta' / f'{split}.txt').open()]
        for split in ('train', 'test')
    }
    names = {label: path.split('/')[0] for samples in splits.values() for path, label in samples}
    return Contents(splits, [names[label] for label in sorted(names)])


def _matlab(path: Path) -> dict:
    from scipy.io import loadmat

    try:
        with path.open('rb') as file:
            return loadmat(file, squeeze_me=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is damaged ({error}). Delete it and get it again.') from error


def read_cars(root: Path) -> Contents:
    """Stanford Cars: classes count from 1 in the files, from 0 in the lists."""
    annotations = dict(
        train=root / 'devkit' / 'cars_train_annos.mat',
        test=root / 'cars_test_annos_withlabels.mat',
    )
    splits = {}
    for split, file in annotations.items():
        rows = np.atleast_1d(_matlab(file)['annotations'])
        splits[split] = [(f'cars_{split}/{row["fname"]}', int(row['class']) - 1) for row in rows]
    names = _matlab(root / 'devkit' / 'cars_meta.mat')['class_names']
    return Contents(splits, [str(name) for name in np.atleast_1d(names)])


def read_caltech101(root: Path, seed: int = 0, train_per_class: int = 30) -> Contents:
    """Caltech-101 without the background: 30 random images of a class to train, the rest to test.

    The data set has no split of its own; this is the usual one for transfer (SimCLR, Chen et al.,
    ICML 2020, appendix B.8), there with the background as one more class.
    """
    folder = '101_ObjectCategories'
    classes = [name for name in folders_in(root / folder) if name != 'BACKGROUND_Google']
    samples = [
        (f'{folder}/{path}', label) for path, label in folder_samples(root / folder, classes)
    ]
    for label, size in class_sizes(samples).items():
        if size <= train_per_class:
            raise ValueError(
                f'{root / folder / classes[label]} holds {size} images; {train_per_class} to train '
                'and at least one to test are needed. Delete the folder and unpack the archive '
                'again.'
            )
    take = dict.fromkeys(range(len(classes)), train_per_class)
    train, test = split_by_class(samples, take, seed)
    facts = dict(split='random', train_per_class=train_per_class, seed=seed)
    return Contents(dict(train=train, test=test), classes, facts)


def read_pets(root: Path) -> Contents:
    """Oxford-IIIT Pet: trainval and test; classes count from 1 in the files."""
    splits, names = {}, {}
    for split, file in (('train', 'trainval.txt'), ('test', 'test.txt')):
        lines = (root / 'annotations' / file).read_text().splitlines()
        rows = [line.split() for line in lines if line and not line.startswith('#')]
        splits[split] = [(f'images/{row[0]}.jpg', int(row[1]) - 1) for row in rows]
        names.update({int(row[1]): row[0].rsplit('_', 1)[0] for row in rows})
    return Contents(splits, [names[label] for label in sorted(names)])


def read_flowers(root: Path) -> Contents:
    """Oxford Flowers 102: the training and the validation set together train; classes from 0."""
    labels = np.atleast_1d(_matlab(root / 'imagelabels.mat')['labels']) - 1
    sets = _matlab(root / 'setid.mat')
    members = dict(train=('trnid', 'valid'), test=('tstid',))
    splits = {
        split: [
            (f'jpg/image_{index:05d}.jpg', int(labels[index - 1]))
            for name in names
            for index in np.atleast_1d(sets[name]).tolist()
        ]
        for split, names in members.items()
    }
    # The archive holds no names; old versions of torchvision have none either.
    numbers = [str(number) for number in range(1, 103)]
    return Contents(splits, list(getattr(datasets.Flowers102, 'classes', numbers)))


def read_custom(root: Path, seed: int = 0, test_percent: int = 20) -> Contents:
    """Own images, a folder for each class: ``{train,test}/CLASS``, ``train/CLASS`` or ``CLASS``.

    Without a folder ``test`` a fifth of each class, drawn at random and rounded up, is to test.

    Args:
        root (Path): Folder of the data set.
        seed (int): Of the draw. Default: 0.
        test_percent (int): Share of each class that is drawn. Default: 20.

    Raises:
        FileNotFoundError: If there are no folders of classes; it says which to make.
    """
    if (root / 'test').is_dir():
        classes = _classes(root / 'train', root)
        splits = {split: _below(split, root, classes) for split in ('train', 'test')}
        return Contents(splits, classes, dict(split='folders'))
    part = 'train' if (root / 'train').is_dir() else '.'
    classes = _classes(root / part, root)
    samples = _below(part, root, classes)
    take = {label: -(-test_percent * size // 100) for label, size in class_sizes(samples).items()}
    test, train = split_by_class(samples, take, seed)
    facts = dict(split='random', test_percent=test_percent, seed=seed)
    return Contents(dict(train=train, test=test), classes, facts)


def _classes(folder: Path, root: Path) -> list[str]:
    """Names of the folders of classes."""
    names = [name for name in folders_in(folder) if name != 'meta'] if folder.is_dir() else []
    if not names:
        flat = ' The images in it say no class.' if images_in(folder) else ''
        raise FileNotFoundError(
            f'{folder} has no folder of a class.{flat} Make one for each class in '
            f'{root / "train"}, with or without the same in {root / "test"}, and put the images '
            'into them. To train without labels none of this is needed: see docs/en/own_data.md.'
        )
    return names


def _below(split: str, root: Path, classes: list[str]) -> list[Sample]:
    """Images of a split's folders, relative to the folder of the data set."""
    prefix = '' if split == '.' else f'{split}/'
    return [(f'{prefix}{path}', label) for path, label in folder_samples(root / split, classes)]
