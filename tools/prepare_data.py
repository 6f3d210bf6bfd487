"""Prepare a data set of the evaluation: python tools/prepare_data.py NAME [options].

What is not there is named, with the address to get it from. What was downloaded into the folder of
the data set is unpacked, its images are counted and opened, and the lists that the configs read are
written, last. A second call finds all done.

python tools/prepare_data.py --list
python tools/prepare_data.py pets --download
python tools/prepare_data.py imagenet-1percent --subset-list downloads/1percent.txt
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmselfsup_invp.datasets.preparation import (
    DataSet,
    check,
    data_sets,
    facts,
    missing_downloads,
    missing_files,
    prepare,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', nargs='?', choices=list(data_sets()), help='data set to prepare')
    parser.add_argument('--list', action='store_true', help='show all data sets and their state')
    parser.add_argument('--root', type=Path, help='folder of the data set (default: see --list)')
    parser.add_argument(
        '--check', action='store_true', help='check a prepared data set again, write nothing'
    )
    parser.add_argument(
        '--quick', action='store_true', help='count the images without opening them'
    )
    parser.add_argument(
        '--download', action='store_true', help='fetch what is missing and has a direct address'
    )
    parser.add_argument(
        '--subset-list',
        type=Path,
        help='names of the images of a subset of ImageNet, one a line, as SimCLR published them '
        '(default: drawn at random)',
    )
    parser.add_argument(
        '--seed', type=int, help='seed of subsets and splits that are drawn (default: 0)'
    )
    args = parser.parse_args()
    if not args.list and args.name is None:
        parser.error(f'name one of {", ".join(data_sets())}, or --list')
    if args.subset_list is not None and not str(args.name).startswith('imagenet-'):
        parser.error('--subset-list goes with imagenet-1percent and imagenet-10percent')
    return args


def state(data_set: DataSet) -> str:
    """How far the preparation has come."""
    root = Path(data_set.root)
    if not missing_files(data_set, root):
        return 'complete'
    if missing_downloads(data_set, root) or not root.is_dir():
        return 'not there'
    return 'to be prepared'


def show_all() -> None:
    """Print the table of data sets."""
    table = Table('name', 'images', 'folder', 'state', box=None)
    for data_set in data_sets().values():
        images = ' + '.join(f'{count:,}' for count in data_set.counts.values())
        table.add_row(data_set.name, images, data_set.root, state(data_set))
    Console().print(table)


def run(data_set: DataSet, args: argparse.Namespace) -> None:
    """Prepare or check, and say what is there."""
    root = args.root or Path(data_set.root)
    if args.check:
        found = check(data_set, root, args.quick)
        verdict = 'all there' if args.quick else 'all there and whole'
    else:
        found = prepare(data_set, root, args.download, args.quick)
        verdict = 'prepared'
    if found is None:
        print(f'{data_set.name} is complete: {", ".join(str(root / f) for f in data_set.files)}')
    else:
        images = ', '.join(f'{count:,} {name}' for name, count in found.items())
        print(f'{data_set.name} in {root}: {images} images, {verdict}.')
    chosen = facts(data_set, root)
    if chosen:
        print('images chosen by ' + ', '.join(f'{key} = {value}' for key, value in chosen.items()))


def main() -> None:
    args = parse_args()
    if args.list:
        show_all()
        return
    try:
        run(data_sets(args.seed, args.subset_list)[args.name], args)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
