"""What the command lines of the tools share."""

import os
from argparse import ArgumentError, ArgumentParser, Namespace
from typing import Any

from mmengine.config import DictAction


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
