"""Prepare a data set of the evaluation, or show their states; tools/prepare_data.py runs this."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..datasets.preparation import DataSet, check, data_sets, prepare, selection


def run_preparation(args: Namespace) -> None:
    """Prepare or check a data set, or print the table of all.

    Args:
        args (Namespace): The arguments of tools/prepare_data.py.
    """
    if args.list:
        show_all()
    else:
        prepare_or_check(data_sets(args.seed, args.subset_list)[args.name], args)


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


def prepare_or_check(data_set: DataSet, args: Namespace) -> None:
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
