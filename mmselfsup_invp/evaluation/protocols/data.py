"""The data sets that a benchmark's config names."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...datasets.preparation import data_sets
from ..checkpoints import DIGITS

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
LISTS = ('ann_file', 'image_set_path')
VOC = ('VOC2007', 'VOC2012')  # Which lie in the folder that is prepared.
# Those that tools/prepare_data.py does not know.
OTHERS = {
    'digits': 'run `python tools/convert_dataset.py digits {root}`',
    'bccd': 'configs/benchmarks/mmdetection/README.md says where to get it',
    'custom-voc': 'configs/benchmarks/mmdetection/README.md says how your images have to lie',
}


def _datasets(config: Any) -> Iterator[dict]:
    """Configs of data sets with a folder, those inside wrappers too."""
    if isinstance(config, list):
        for item in config:
            yield from _datasets(item)
    elif isinstance(config, dict):
        if 'data_root' in config:
            yield config
        for value in config.values():
            yield from _datasets(value)


def _named(config: Config) -> Iterator[dict]:
    for name in LOADERS:
        yield from _datasets(config.get(name))


def move_data(config: Config, root: str) -> None:
    """Let all loaders of a config read another folder.

    Args:
        config (Config): Changed in place.
        root (str): In place of every ``data_root``.
    """
    for dataset in _named(config):
        dataset['data_root'] = root


def data_roots(config: Config) -> list[str]:
    """The folders that a config reads, sorted, from the root of the file system on."""
    return sorted({str(Path(dataset['data_root']).resolve()) for dataset in _named(config)})


def lists_digest(config: Config) -> str:
    """Hash of the lists that a config reads, which have to be there."""
    found = hashlib.sha256()
    for name, path in sorted(_lists(config)):
        found.update(f'{name} '.encode() + path.read_bytes())
    return found.hexdigest()[:DIGITS]


def _lists(config: Config) -> set[tuple[str, Path]]:
    """Names and places of the lists."""
    return {
        (dataset[key], Path(dataset['data_root']) / dataset[key])
        for dataset in _named(config)
        for key in LISTS
        if dataset.get(key)
    }


def check_data(config: Config, names: str | Sequence[str]) -> None:
    """Make sure that lists and folders of the data are there before anything long begins.

    Args:
        config (Config): Of the benchmark.
        names (str | Sequence[str]): What the benchmark calls its data sets.

    Raises:
        FileNotFoundError: If something is missing; it says what, and what to do.
    """
    lacking = {path: root for root, path in _missing(config)}
    names = [names] if isinstance(names, str) else names
    if lacking:
        root = next(iter(lacking.values()))
        advice = '; '.join(dict.fromkeys(_advice(name, root) for name in names))
        raise FileNotFoundError(
            f'{" and ".join(names)}: not complete, {", ".join(map(str, lacking))} not found. What '
            f'to do: {advice}. If it lies elsewhere, name the folder by --data.'
        )


def _advice(name: str, root: Path) -> str:
    """How to get a data set into a folder."""
    if name in OTHERS:
        return OTHERS[name].format(root=root)
    known = data_sets().get(name)
    if known is None:
        return 'docs/en/data.md says which layouts are read'
    if root.name in VOC:
        root = root.parent
    return f'run `{known.command(root)}`, which says what to download'


def _missing(config: Config) -> Iterator[tuple[Path, Path]]:
    """Data set's folder and path of each list or folder that is not there."""
    for dataset in _named(config):
        root = Path(dataset['data_root'])
        lists = [root / dataset[key] for key in LISTS if dataset.get(key)]
        prefix = dataset.get('data_prefix') or {}
        prefixes = [prefix] if isinstance(prefix, str) else prefix.values()
        folders = [root / folder for folder in prefixes if folder] or [root]
        yield from ((root, path) for path in lists if not path.is_file())
        yield from ((root, path) for path in folders if not path.is_dir())
