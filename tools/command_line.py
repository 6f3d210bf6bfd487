"""Arguments that the tools share, and the check of the environment.

The module imports the standard library alone, so that ``--help`` and a wrong argument are answered
at once. Any Python 3 can read it, so that an unsuitable one is reported.
"""

import argparse
import os
import sys
from difflib import get_close_matches
from pathlib import Path


def create_parser(description):
    """Argument parser with a description that keeps its line breaks, and ``--debug``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of every error')
    return parser


def create_run_parser(description, images=False):
    """Argument parser of a tool that runs a config on one or several processes.

    With ``images``, a folder of images may be given instead of the config.
    """
    parser = create_parser(description)
    source = parser.add_mutually_exclusive_group(required=True) if images else parser
    source.add_argument(
        'config',
        type=existing_config,
        nargs='?' if images else None,
        help='path of the config, or PACKAGE::PATH of one in an installed package',
    )
    if images:
        source.add_argument(
            '--images',
            metavar='FOLDER',
            help='instead of a config: train on all images below this folder, by settings chosen '
            'for them and this machine',
        )
        parser.add_argument(
            '--recipe',
            nargs='+',
            action=Options,
            metavar='KEY=VALUE',
            help='with --images: settings to use instead of the chosen ones, such as epochs=50',
        )
    add_config_options(parser, 'the config')
    # torch.distributed.launch passes the rank in either spelling.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def add_config_options(parser, what, launcher='of a distributed run'):
    """Add ``--cfg-options``, which override settings, and ``--launcher``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help=f'override settings of {what}: key=value, key="[a,b]", key.inner=value',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help=f'launcher {launcher} (default: %(default)s)',
    )


def existing_config(name):
    """The name of a config; a path must exist."""
    path = Path(name)
    if '::' in name or path.is_file():
        return name
    close = get_close_matches(path.name, [file.name for file in path.parent.glob('*.py')])
    hint = f' Did you mean {" or ".join(close)}?' if close else ''
    if not path.parent.is_dir():
        hint = f' There is no folder {path.parent} either.'
    raise argparse.ArgumentTypeError(f'there is no config {name}.{hint}')


class Options(argparse.Action):
    """Collects words ``KEY=VALUE`` in a dict of texts; see ``mmselfsup_invp.cli.options``."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for word in values:
            key, equals, value = word.partition('=')
            if not key or not equals:
                raise argparse.ArgumentError(self, f'{word!r} is not of the form KEY=VALUE')
            options[key] = value
        setattr(namespace, self.dest, options)


def require_packages(args):
    """End the process with advice if this Python lacks a supported host or this package."""
    if hasattr(args, 'local_rank'):  # Read by MMEngine, where no launcher has set it.
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    try:
        from mmselfsup_invp.compat import require_host

        require_host()
    except ImportError as error:
        version = '.'.join(map(str, sys.version_info[:3]))
        sys.exit(
            f'error: {error}\nThis is {sys.executable} (Python {version}). '
            'Use .venv/bin/python, which `make setup` creates.'
        )
