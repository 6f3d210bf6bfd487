"""Command lines and the configs that they name."""

import inspect
import os
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.hub import get_config
from mmengine.runner import Runner

# What a runner reads of a config, whether it stands in the file or not: its arguments and these.
BEYOND_ARGUMENTS = {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
}
RUNNER_KEYS = BEYOND_ARGUMENTS | set(inspect.signature(Runner).parameters) - {'cfg'}


class Options(DictAction):
    """``KEY=VALUE`` words as a dict; says so where a word is none."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: list[str], *args: Any
    ) -> None:
        bare = [word for word in values if not word.partition('=')[0] or '=' not in word]
        if bare:
            raise ArgumentError(self, f'{bare[0]!r} is not of the form KEY=VALUE')
        try:
            super().__call__(parser, namespace, values, *args)
        except AssertionError as error:  # Of brackets that do not match.
            raise ArgumentError(self, str(error)) from error


def add_run_arguments(parser: ArgumentParser) -> None:
    """Add what every command takes that starts a runner."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='override settings of the config: key=value, key="[a,b]", key.inner=value',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed run',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of every error')
    # torch.distributed.launch hands the rank over in either spelling.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def parse_run_arguments(parser: ArgumentParser) -> Namespace:
    """Parse the command line; the rank it names becomes known, where no launcher told it."""
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def read_config(name: str | Path) -> Config:
    """Read a config by its path, or by ``PACKAGE::PATH`` from an installed package.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If the package is not installed.
    """
    name = str(name)
    if '::' in name:
        package = name.partition('::')[0]
        if not package.isidentifier() or find_spec(package) is None:
            raise ValueError(f'{name}: the package {package!r} is not installed.')
        return get_config(name)
    path = Path(name)
    if not path.is_file():
        there = [file.name for file in path.parent.glob('*.py')]
        hint = alike(path.name, there) if path.parent.is_dir() else ' Nor is there that folder.'
        raise FileNotFoundError(f'There is no config {name}.{hint}')
    return Config.fromfile(name)


def merge_options(cfg: Config, options: dict[str, Any] | None) -> None:
    """Let ``--cfg-options`` change a config, unless a name in them means nothing.

    Args:
        cfg (Config): Changed in place.
        options (dict, optional): Values by their dotted names. Defaults to None, no change.

    Raises:
        ValueError: If the first part of a name is neither in the config nor known to a runner, or
            a hook is set that the config does not have.
    """
    options = options or {}
    known = RUNNER_KEYS | set(cfg)
    for key in options:
        first = key.partition('.')[0]
        if first not in known:
            raise ValueError(
                f'--cfg-options {key}: the config has no {first!r}.{alike(first, known)} Its '
                f'names: {", ".join(sorted(cfg))}.'
            )
    before = set(cfg.get('default_hooks') or {})
    cfg.merge_from_dict(options)
    for name in set(cfg.get('default_hooks') or {}) - before:
        hook = cfg.default_hooks[name]
        if isinstance(hook, dict) and 'type' not in hook:
            raise ValueError(
                f'--cfg-options default_hooks.{name}: the config has no hook of that name.'
                f'{alike(name, before)} Its hooks: {", ".join(sorted(before))}. To add one, give '
                f'default_hooks.{name}.type too.'
            )


def alike(name: str, valid: Iterable[str]) -> str:
    """Words that name the valid names most like this one, if any; they begin with a blank."""
    near = get_close_matches(name, sorted(valid))
    return f' Did you mean {" or ".join(near)}?' if near else ''
