"""The config of a command line: ``CONFIG --cfg-options KEY=VALUE ... --launcher ...``."""

import ast
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mmengine.config import Config, DictAction

from ..config import dicts_in, merge_options, read_config


def read_run_config(args: Namespace) -> Config:
    """Read the config that a command line names and apply its options.

    Data loaders without workers have ``persistent_workers=False``.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If an option cannot be parsed, or the config has no such setting.
    """
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    merge_options(cfg, parse_values(args.cfg_options or {}))
    disable_persistent_workers(cfg)
    return cfg


def parse_values(options: Mapping[str, str]) -> dict[str, Any]:
    """Parse the values of ``--cfg-options`` as MMEngine does, but keep blanks in texts.

    MMEngine's ``DictAction`` removes all blanks, also those of a path. Brackets that do not match
    raise ``ValueError``.

    Example:
        >>> parse_values({'lr': '0.1', 'data_root': '/a b', 'milestones': '[1,2]'})
        {'lr': 0.1, 'data_root': '/a b', 'milestones': [1, 2]}
    """
    return {name: _parse(name, text) for name, text in options.items()}


def _parse(name: str, text: str) -> Any:
    try:
        value = DictAction._parse_iterable(text)
    except AssertionError as error:
        raise ValueError(f'--cfg-options {name}={text}: {error}') from error
    if isinstance(value, str):
        return text.strip('\'"')
    if ' ' in text:
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(text)
    return value


def disable_persistent_workers(cfg: Config) -> None:
    """Adapt data loaders with ``num_workers=0``; PyTorch refuses worker options for them."""
    for part in dicts_in(cfg._cfg_dict):
        if part.get('num_workers') == 0:
            if part.get('persistent_workers'):
                part['persistent_workers'] = False
            part.pop('prefetch_factor', None)
