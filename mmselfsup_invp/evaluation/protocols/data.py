"""The data sets that a benchmark's config names."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

from ...config import dicts_in
from ...datasets.files import file_sizes
from ...datasets.image_files import EXTENSIONS
from ...datasets.preparation import data_sets
from ..checkpoints import DIGEST_LENGTH
from .class_folders import ClassFolders

# Parts of a config that name folders.
PARTS = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'class_folders')
LISTS = ('ann_file', 'image_set_path')
# Images of a list whose sizes enter its hash: each size may be a round trip over the network.
MAX_SIZES = 2**16
# VOC is prepared in the parent of these folders.
VOC = ('VOC2007', 'VOC2012')
# Data sets that tools/prepare_data.py does not have.
OTHERS = {
    'class-folders': 'put the images of each class into a folder of its own, or of train and val',
    'digits': 'run `python tools/convert_dataset.py digits {root}`',
    'bccd': 'configs/benchmarks/mmdetection/README.md says where to get it',
    'custom-voc': 'configs/benchmarks/mmdetection/README.md describes the layout of your images',
}


def _datasets(config: Config) -> Iterator[dict]:
    """Configs of the data sets that have a folder, also those inside wrappers."""
    for part in dicts_in([config.get(name) for name in PARTS]):
        if 'data_root' in part:
            yield part


def _lists(dataset: dict) -> Iterator[tuple[str, Path]]:
    """Names and paths of the lists of a data set."""
    for key in LISTS:
        if dataset.get(key):
            yield dataset[key], Path(dataset['data_root']) / dataset[key]


def move_data(config: Config, root: str) -> None:
    """Set every ``data_root`` in the loaders of a config, which is changed in place."""
    for dataset in _datasets(config):
        dataset['data_root'] = root


def data_roots(config: Config) -> list[str]:
    """The folders that a config reads, as absolute paths, sorted."""
    return sorted({str(Path(dataset['data_root']).resolve()) for dataset in _datasets(config)})


def lists_digest(config: Config) -> str:
    """Hash of the lists of images, or the class folders, that a config reads; they must exist.

    It covers the sizes in bytes of the images, of up to 65536 evenly spaced ones of a list: other
    contents have other results. Lists in JSON enter without the sizes.
    """
    found = hashlib.sha256()
    pairs = ((dataset, pair) for dataset in _datasets(config) for pair in _lists(dataset))
    for name, path, folder in sorted({(*pair, _image_folder(dataset)) for dataset, pair in pairs}):
        content = path.read_bytes()
        found.update(f'{name} '.encode() + content)
        if path.suffix != '.json':
            found.update(str(file_sizes(_image_paths(content, folder))).encode())
    if 'class_folders' in config:
        found.update(ClassFolders(Path(config.class_folders.data_root)).key.encode())
    return found.hexdigest()[:DIGEST_LENGTH]


def _image_folder(dataset: dict) -> str:
    """The folder that the paths in the lists of a data set start from."""
    prefix = dataset.get('data_prefix') or {}
    if not isinstance(prefix, str):
        # mmdet's VOCDataset has the images in a folder of its own below this prefix.
        voc = os.path.join(prefix.get('sub_data_root', ''), dataset.get('img_subdir', 'JPEGImages'))
        voc = voc if 'sub_data_root' in prefix else ''
        prefix = prefix.get('img_path') or prefix.get('img') or voc
    return os.path.join(dataset['data_root'], prefix)


def _image_paths(content: bytes, folder: str) -> list[str]:
    """Paths of up to 65536 evenly spaced images of a list: ``PATH LABEL``, ``PATH`` or VOC's."""
    lines = [line for line in os.fsdecode(content).split('\n') if line.strip()]
    number = min(len(lines), MAX_SIZES)
    chosen = (lines[row * len(lines) // number] for row in range(number))
    return [os.path.join(folder, _image_name(line.strip())) for line in chosen]


def _image_name(line: str) -> str:
    path, _, label = line.rpartition(' ')
    name = path.rstrip() if path and label.lstrip('-').isdigit() else line
    return name if name.lower().endswith(EXTENSIONS) else f'{name}.jpg'  # VOC leaves that out.


def is_ready(config: Config) -> bool:
    """Whether lists and folders of the data exist."""
    return next(_missing(config), None) is None


def check_data(config: Config, names: str | Sequence[str]) -> None:
    """Raise ``FileNotFoundError`` unless lists and folders of the data exist.

    The message names what is missing, and the commands that prepare the data sets ``names``.
    """
    missing = {path: root for root, path in _missing(config)}
    names = [names] if isinstance(names, str) else names
    if missing:
        root = next(iter(missing.values()))
        advice = '; '.join(dict.fromkeys(_advice(name, root) for name in names))
        raise FileNotFoundError(
            f'{" and ".join(names)}: not complete, {", ".join(map(str, missing))} not found. What '
            f'to do: {advice}. If the data lie elsewhere, name their folder by --data.'
        )


def _advice(name: str, root: Path) -> str:
    """How to prepare a data set in a folder."""
    if name in OTHERS:
        return OTHERS[name].format(root=root)
    known = data_sets().get(name)
    if known is None:
        return 'docs/en/data.md describes the layouts that can be read'
    if root.name in VOC:
        root = root.parent
    return f'run `{known.command(root)}`, which says what to download'


def _missing(config: Config) -> Iterator[tuple[Path, Path]]:
    """Folder of the data set and path of each list or folder that does not exist."""
    for dataset in _datasets(config):
        root = Path(dataset['data_root'])
        prefix = dataset.get('data_prefix') or {}
        prefixes = [prefix] if isinstance(prefix, str) else prefix.values()
        folders = [root / folder for folder in prefixes if folder] or [root]
        yield from ((root, path) for _, path in _lists(dataset) if not path.is_file())
        yield from ((root, path) for path in folders if not path.is_dir())
