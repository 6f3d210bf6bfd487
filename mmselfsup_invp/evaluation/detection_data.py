"""Check before a run that the data of a detector are complete and have its classes.

mmdet drops boxes of unknown classes and trains a head of any width without a message.
"""

import logging
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_from_file
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from ..config import dicts_in


def check_detection_data(cfg: Config, splits: Sequence[str] = ('train', 'test')) -> None:
    """Raise unless the data sets in VOC layout are complete and fit the head of a detector.

    Data sets in other layouts or in remote storage are not checked.

    Raises:
        FileNotFoundError: Names a list, an annotation or an image that is missing.
        ValueError: If an annotation is no XML, or the classes of data and head differ.
    """
    for split in splits:
        sources = list(_voc_sets(cfg[f'{split}_dataloader'].dataset))
        if sources:
            classes = sources[0].metainfo['classes']  # mmdet requires the same for all.
            _check_head(cfg.model, classes, split)
            _check_names(sum(map(_count_boxes, sources), Counter()), classes, split)


def _voc_sets(config: dict) -> Iterator[BaseDataset]:
    """Data sets in VOC layout, built so that their paths are set and nothing is read."""
    registry = import_module('mmdet.registry').DATASETS
    for part in dicts_in(config):
        voc = str(part.get('type')).rpartition('.')[2] == 'VOCDataset'
        if voc and not part.get('backend_args') and '://' not in str(part.get('data_root')):
            with DefaultScope.overwrite_default_scope('mmdet'):
                yield registry.build({**part, 'pipeline': [], 'lazy_init': True})


def _check_head(model: dict, classes: Sequence[str], split: str) -> None:
    heads = model.get('roi_head', model).get('bbox_head', [])
    for head in heads if isinstance(heads, list) else [heads]:
        if head.get('num_classes', len(classes)) != len(classes):
            raise ValueError(
                f'The head of the detector has num_classes={head["num_classes"]}, but the {split} '
                f'data have {len(classes)} classes: {", ".join(classes)}. Set num_classes of '
                f'bbox_head to {len(classes)}, or metainfo.classes of the data sets to what the '
                'head is for.'
            )


def _check_names(boxes: Counter[str], classes: Sequence[str], split: str) -> None:
    """Compare the classes with the names of boxes in the files; not all names must be classes."""
    without = [name for name in classes if name not in boxes]
    others = [f'{name} ({count})' for name, count in boxes.items() if name not in classes]
    if not without and not others:
        return
    message = (
        f'The classes of the {split} data are {", ".join(classes)} (metainfo.classes). Without a '
        f'box in the annotations: {", ".join(without) or "none"}. Names of boxes that are no '
        f'class, and their number: {", ".join(others) or "none"}.'
    )
    if len(without) == len(classes) or (split == 'train' and without and others):
        raise ValueError(
            f'{message} Set metainfo.classes of every data set to the names in the XML files and '
            'num_classes of the head to their number, or give the folder of the right data.'
        )
    print_log(message, logger='current', level=logging.WARNING)


def _count_boxes(dataset: BaseDataset) -> Counter[str]:
    """Boxes by their names, of all images of a data set."""
    root = Path(dataset.sub_data_root)
    names = _image_names(dataset)
    annotations = [root / dataset.ann_subdir / f'{name}.xml' for name in names]
    images = [root / dataset.img_subdir / f'{name}.jpg' for name in names]
    missing = [path for path in annotations + images if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} files that {dataset.ann_file} lists are missing, the first is '
            f'{missing[0]}. Each NAME in the list needs {dataset.ann_subdir}/NAME.xml and '
            f'{dataset.img_subdir}/NAME.jpg in {root}: put them there, take the name out of the '
            'list, or give the right folder as data_root.'
        )
    return Counter(chain.from_iterable(map(_names_in, annotations)))


def _image_names(dataset: BaseDataset) -> list[str]:
    try:
        return list_from_file(dataset.ann_file)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'There is no list of images {dataset.ann_file}. It has one NAME a line; put it there, '
            'or give the right folder as data_root.'
        ) from error


def _names_in(annotation: Path) -> list[str]:
    """Class names of the boxes of an image."""
    try:
        root = ElementTree.parse(annotation).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(
            f'{annotation} is no annotation in XML: {error}. Restore the file, or take the image '
            'out of the list.'
        ) from error
    return [box.findtext('name', '') for box in root.findall('object')]
