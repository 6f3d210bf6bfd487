"""Prepare a data set of the evaluation: unpack its archives, check its images, write its lists.

Downloads that are missing are listed with their addresses. The lists are written last; a prepared
data set is left unchanged.

python tools/prepare_data.py --list
python tools/prepare_data.py pets --download
python tools/prepare_data.py imagenet-1percent --subset-list downloads/1percent.txt
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmselfsup_invp.datasets.preparation import DataSet, check, data_sets, prepare, selection


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('name', nargs='?', choices=list(data_sets()), help='data set to prepare')
    add('--list', action='store_true', help='show all data sets and their state')
    add('--root', type=Path, help='folder of the data set (default: see --list)')
    add('--check', action='store_true', help='check a prepared data set, write nothing')
    add('--quick', action='store_true', help='check that the images exist without opening them')
    add('--download', action='store_true', help='fetch missing files with a direct address')
    add(
        '--subset-list',
        type=Path,
        help='image names of an ImageNet subset, one a line, as published by SimCLR '
        '(default: drawn at random)',
    )
    add('--seed', type=int, help='seed of random subsets and splits (default: 0)')
    args = parser.parse_args()
    if not args.list and args.name is None:
        parser.error(f'name one of {", ".join(data_sets())}, or use --list')
    if args.subset_list is not None and not str(args.name).startswith('imagenet-'):
        parser.error('--subset-list requires imagenet-1percent or imagenet-10percent')
    return args


def state(data_set: DataSet) -> str:
    """Progress of the preparation."""
    root = Path(data_set.root)
    if not data_set.missing_files(root):
        return 'complete'
    if data_set.missing_downloads(root) or not root.is_dir():
        return 'missing'
    return 'not prepared'


def show_all() -> None:
    """Print the table of data sets."""
    table = Table('name', 'images', 'folder', 'state', box=None)
    for data_set in data_sets().values():
        images = ' + '.join(f'{count:,}' for count in data_set.counts.values())
        table.add_row(data_set.name, images, data_set.root, state(data_set))
    Console().print(table)


def run(data_set: DataSet, args: argparse.Namespace) -> None:
    """Prepare or check a data set and print the number of its images."""
    root = args.root or Path(data_set.root)
    if args.check:
        found = check(data_set, root, args.quick)
        result = 'present' if args.quick else 'present and readable'
    else:
        found = prepare(data_set, root, args.download, args.quick)
        result = 'prepared'
    if found is None:
        print(f'{data_set.name} is complete: {", ".join(str(root / f) for f in data_set.files)}')
    else:
        images = ', '.join(f'{count:,} {name}' for name, count in found.items())
        print(f'{data_set.name} in {root}: {images} images {result}.')
    drawn = selection(data_set, root)
    if drawn:
        print('selection: ' + ', '.join(f'{key} = {value}' for key, value in drawn.items()))


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
