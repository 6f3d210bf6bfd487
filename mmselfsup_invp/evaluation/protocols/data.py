"""The data sets that a benchmark's config names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


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


def check_data(config: Config, names: str | Sequence[str]) -> None:
    """Make sure that lists and folders of the data are there before anything long begins.

    Args:
        config (Config): Of the benchmark.
        names (str | Sequence[str]): What ``tools/prepare_data.py`` calls the data sets.

    Raises:
        FileNotFoundError: If something is missing; it says what, and what to do.
    """
    missing = {str(path): None for dataset in _named(config) for path in _missing(dataset)}
    names = [names] if isinstance(names, str) else names
    if missing:
        commands = ' and '.join(f'`python tools/prepare_data.py {name}`' for name in names)
        raise FileNotFoundError(
            f'{" and ".join(names)}: not complete, {", ".join(missing)} not found. Run {commands}, '
            'which says what to download, or name the folder by --data.'
        )


def _missing(dataset: dict) -> Iterator[Path]:
    root = Path(dataset['data_root'])
    for key in ('ann_file', 'image_set_path'):
        if dataset.get(key) and not (root / dataset[key]).is_file():
            yield root / dataset[key]
    for folder in (dataset.get('data_prefix') or {}).values():
        if folder and not (root / folder).is_dir():
            yield root / folder
