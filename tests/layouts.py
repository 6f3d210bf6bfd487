"""Tiny folders in the layouts of the official data sets, as their archives unpack.

Every function writes a folder that stands for ``data/NAME`` and returns it. The images are small
and have one colour a class. Only :func:`cifar` writes lists; :func:`prepared` writes those of any
data set, as ``tools/prepare_data.py`` does.
"""

import dataclasses
import shutil
import tarfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import scipy.io
from PIL import Image
from torchvision import datasets

from mmselfsup_invp.compat.host import DATASETS
from mmselfsup_invp.datasets.converters import claim_folder, write_split
from mmselfsup_invp.datasets.preparation import DataSet, data_sets, prepare

WNIDS = ['n01440764', 'n01443537', 'n01484850', 'n01491361', 'n01494475', 'n01496331', 'n01498041']
VOC_CLASSES = DATASETS.get('mmcls.VOC').METAINFO['classes']
SIZE = (40, 32)  # Width and height of an image, in pixels.


def colour(label: int) -> np.ndarray:
    """Mean colour of the images of a class: RGB, shape ``(3,)``."""
    return np.random.default_rng(label).integers(40, 216, 3)


def image(label: int, number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """An image with the colour of its class and random noise."""
    random = np.random.default_rng([label, number])
    pixels = colour(label) + random.integers(-40, 40, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_image(path: Path, label: int, number: int) -> None:
    """Write :func:`image` and create its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image(label, number).save(path)


def imagenet(root: Path, classes: int = 2, per_class: int = 2, flat: bool = False) -> Path:
    """ImageNet: ``train/WNID/WNID_N.JPEG`` and ``val/WNID/``, or ``val/*.JPEG`` if ``flat``."""
    number = 0
    for label, wnid in enumerate(WNIDS[:classes]):
        for index in range(per_class):
            number += 1
            write_image(root / 'train' / wnid / f'{wnid}_{index}.JPEG', label, index)
            folder = root / 'val' if flat else root / 'val' / wnid
            write_image(folder / f'ILSVRC2012_val_{number:08d}.JPEG', label, 1000 + index)
    return root


def imagenet_devkit(root: Path, classes: int = 2, per_class: int = 2) -> Path:
    """``ILSVRC2012_devkit_t12.tar.gz``; its ids are in the reverse order of the WordNet ids."""
    data = root / 'ILSVRC2012_devkit_t12' / 'data'
    data.mkdir(parents=True)
    rows = [
        (classes - label, wnid, f'name {label}, other name', 'gloss', 0)
        for label, wnid in enumerate(WNIDS[:classes])
    ]
    rows.append((classes + 1, 'n00000001', 'a parent', 'gloss', classes))
    keys = ('ILSVRC2012_ID', 'WNID', 'words', 'gloss', 'num_children')
    synsets = np.array(rows, dtype=[(key, object) for key in keys])
    scipy.io.savemat(data / 'meta.mat', dict(synsets=synsets))
    ids = [str(classes - label) for label in range(classes) for _ in range(per_class)]
    truth = data / 'ILSVRC2012_validation_ground_truth.txt'
    truth.write_text('\n'.join(ids) + '\n')
    pack(root / 'ILSVRC2012_devkit_t12.tar.gz', [root / 'ILSVRC2012_devkit_t12'])
    return root


def places205(root: Path, classes: int = 2, per_class: int = 2) -> Path:
    """Places205: images below ``data/vision/...``, lists in ``trainvalsplit_places205``."""
    names = ['a/abbey', 'a/airport_terminal', 'a/alley', 'b/bar', 'v/valley', 'w/windmill']
    images = root / 'data/vision/torralba/deeplearning/images256'
    for split, offset in (('train', 0), ('val', 1000)):
        lines = []
        for label, name in enumerate(names[:classes]):
            for index in range(per_class):
                path = f'{name}/gsun_{offset + index:04d}.jpg'
                write_image(images / path, label, offset + index)
                lines.append(f'{path} {label}\n')
        listing = root / 'trainvalsplit_places205' / f'{split}_places205.csv'
        listing.parent.mkdir(exist_ok=True)
        listing.write_text(''.join(lines))
    return root


def voc(root: Path, year: int = 2007, trainval: int = 20, test: int = 20) -> Path:
    """PASCAL VOC with root ``VOCdevkit``: image n shows the classes n and n + 1 modulo 20.

    Every third image has one difficult object as well. The first half of ``trainval`` is
    ``train``. 2012 has no test images.
    """
    folder = root / f'VOC{year}'
    sets = folder / 'ImageSets' / 'Main'
    sets.mkdir(parents=True)
    test = test if year == 2007 else 0
    objects: dict[str, list[tuple[str, bool]]] = {}
    for number in range(trainval + test):
        name = f'{number + 1:06d}' if year == 2007 else f'{year}_{number + 1:06d}'
        shown = [(number, False), (number + 1, False)] + [(number + 2, True)] * (number % 3 == 0)
        objects[name] = [(VOC_CLASSES[n % 20], difficult) for n, difficult in shown]
        write_image(folder / 'JPEGImages' / f'{name}.jpg', number % 20, number)
        _voc_annotation(folder / 'Annotations' / f'{name}.xml', name, objects[name])
    names = list(objects)
    splits = dict(
        train=names[: trainval // 2],
        val=names[trainval // 2 : trainval],
        trainval=names[:trainval],
    )
    if test:
        splits['test'] = names[trainval:]
    for split, members in splits.items():
        (sets / f'{split}.txt').write_text(''.join(f'{name}\n' for name in members))
        for category in VOC_CLASSES:
            lines = [f'{name} {_voc_presence(objects[name], category):2d}\n' for name in members]
            (sets / f'{category}_{split}.txt').write_text(''.join(lines))
    return root


def _voc_presence(objects: Iterable[tuple[str, bool]], category: str) -> int:
    """1 if the class is present, 0 if only as a difficult object, else -1."""
    difficult = [is_difficult for name, is_difficult in objects if name == category]
    return -1 if not difficult else 0 if all(difficult) else 1


def _voc_annotation(path: Path, name: str, objects: Iterable[tuple[str, bool]]) -> None:
    root = ElementTree.Element('annotation')

    def add(parent: ElementTree.Element, **values: object) -> None:
        for key, value in values.items():
            ElementTree.SubElement(parent, key).text = str(value)

    add(root, folder='VOC', filename=f'{name}.jpg', segmented=0)
    add(ElementTree.SubElement(root, 'size'), width=SIZE[0], height=SIZE[1], depth=3)
    for number, (category, difficult) in enumerate(objects):
        item = ElementTree.SubElement(root, 'object')
        add(item, name=category, pose='Unspecified', truncated=0, difficult=int(difficult))
        left = 1 + 6 * number
        add(ElementTree.SubElement(item, 'bndbox'), xmin=left, ymin=2, xmax=left + 20, ymax=30)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path)


def cifar(root: Path, classes: int = 2, per_class: int = 2) -> Path:
    """CIFAR as ``convert_dataset.py`` writes it, lists included: ``{train,test}/CLASS/N.png``."""
    names = ['airplane', 'automobile', 'bird', 'cat', 'deer'][:classes]
    claim_folder(root, 'cifar10')
    for split, offset in (('train', 0), ('test', 1000)):
        samples = [
            (image(label, offset + index, (32, 32)), label)
            for index in range(per_class)
            for label in range(classes)
        ]
        write_split(root, split, samples, names)
    (root / 'meta' / 'classes.txt').write_text(''.join(f'{name}\n' for name in names))
    return root


def cars(root: Path, classes: int = 2, per_class: int = 2) -> Path:
    """Stanford Cars: ``cars_{train,test}/N.jpg``, ``devkit/`` and the labels of the test images."""
    (root / 'devkit').mkdir(parents=True)
    names = np.array([f'Maker Model {label} 2012' for label in range(classes)], dtype=object)
    scipy.io.savemat(root / 'devkit' / 'cars_meta.mat', dict(class_names=names))
    box = dict(bbox_x1=1, bbox_y1=1, bbox_x2=30, bbox_y2=30)
    files = dict(
        train=root / 'devkit' / 'cars_train_annos.mat',
        test=root / 'cars_test_annos_withlabels.mat',
    )
    for split, file in files.items():
        rows = []
        for number in range(classes * per_class):
            label, name = number % classes, f'{number + 1:05d}.jpg'
            write_image(root / f'cars_{split}' / name, label, number)
            rows.append((*box.values(), label + 1, name))
        keys = [(key, object) for key in (*box, 'class', 'fname')]
        scipy.io.savemat(file, dict(annotations=np.array(rows, dtype=keys)))
    return root


def caltech101(root: Path, classes: int = 2, per_class: int = 32) -> Path:
    """Caltech-101: ``101_ObjectCategories/CLASS/image_N.jpg`` and the background."""
    names = ['Faces', 'accordion', 'airplanes', 'anchor', 'ant', 'yin_yang'][:classes]
    for label, name in enumerate([*names, 'BACKGROUND_Google']):
        for number in range(per_class):
            path = root / '101_ObjectCategories' / name / f'image_{number + 1:04d}.jpg'
            write_image(path, label, number)
    return root


def pets(root: Path, classes: int = 2, per_class: int = 2) -> Path:
    """Oxford-IIIT Pet: ``images/Breed_N.jpg``, ``annotations/{trainval,test}.txt``."""
    names = ['Abyssinian', 'american_bulldog', 'yorkshire_terrier', 'Bengal', 'Sphynx'][:classes]
    (root / 'annotations').mkdir(parents=True)
    for split, first in (('trainval', 1), ('test', 101)):
        lines = []
        for label, name in enumerate(names):
            for number in range(first, first + per_class):
                write_image(root / 'images' / f'{name}_{number}.jpg', label, number)
                lines.append(f'{name}_{number} {label + 1} 1 1\n')
        (root / 'annotations' / f'{split}.txt').write_text(''.join(lines))
    return root


def flowers(root: Path, classes: int = 2, per_class: int = 2) -> Path:
    """Oxford Flowers 102: ``jpg/image_N.jpg``, ``imagelabels.mat`` and ``setid.mat``.

    There are ``per_class`` images of a class in each of the training, validation and test sets.
    """
    labels = [label for label in range(classes) for _ in range(3 * per_class)]
    for number, label in enumerate(labels):
        write_image(root / 'jpg' / f'image_{number + 1:05d}.jpg', label, number)
    scipy.io.savemat(root / 'imagelabels.mat', dict(labels=np.array([labels]) + 1))
    ids = np.arange(1, len(labels) + 1)
    sets = {name: ids[None, part::3] for part, name in enumerate(('trnid', 'valid', 'tstid'))}
    scipy.io.savemat(root / 'setid.mat', sets)
    return root


def custom(root: Path, classes: int = 2, per_class: int = 5, splits: bool = False) -> Path:
    """Custom images: ``CLASS/N.png``, or ``{train,test}/CLASS/N.png`` with splits."""
    for split in ('train', 'test') if splits else ('',):
        for label in range(classes):
            for number in range(per_class):
                write_image(root / split / f'class {label}' / f'{number}.png', label, number)
    return root


def data_set(
    name: str, seed: int | None = None, subset_list: Path | None = None, **counts: int
) -> DataSet:
    """A data set of ``tools/prepare_data.py`` that expects these numbers of images."""
    return dataclasses.replace(data_sets(seed, subset_list)[name], counts=counts)


def prepared(name: str, root: Path) -> Path:
    """A data set of ``tools/prepare_data.py``, by its name, with its lists."""
    if name.startswith('imagenet-'):
        prepared('imagenet', root)
    elif name.startswith('voc'):
        voc(root, int(name.removeprefix('voc')))
    else:
        write = cifar if name.startswith('cifar') else globals()[name]
        write(root)
    with unchecked_flowers():
        prepare(data_set(name), root)
    return root


def unchecked_flowers() -> AbstractContextManager:
    """Let torchvision read :func:`flowers`, whose labels have other checksums."""
    files = datasets.Flowers102._file_dict
    return mock.patch.dict(files, {key: (name, None) for key, (name, _) in files.items()})


def pack(archive: Path, members: Iterable[Path], below: Path | None = None) -> Path:
    """Move files and folders into a tar archive, named relative to a folder (the archive's)."""
    members = list(members)
    with tarfile.open(archive, 'w:gz' if archive.name.endswith('gz') else 'w') as tar:
        for member in members:
            tar.add(member, member.relative_to(below or archive.parent))
    for member in members:
        shutil.rmtree(member) if member.is_dir() else member.unlink()
    return archive
