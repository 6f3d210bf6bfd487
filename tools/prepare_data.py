"""Prepare a data set of the evaluation: unpack its archives, check its images, write its lists.

Downloads that are missing are listed with their addresses. The lists are written last; a prepared
data set is left unchanged.

python tools/prepare_data.py --list
python tools/prepare_data.py pets --download
python tools/prepare_data.py imagenet-1percent --subset-list downloads/1percent.txt
"""

from pathlib import Path

from command_line import create_parser, require_packages

# Written out, because importing the package would delay --help.
NAMES = (
    *('imagenet', 'imagenet-1percent', 'imagenet-10percent', 'places205', 'voc2007', 'voc2012'),
    *('cifar10', 'cifar100', 'cars', 'caltech101', 'pets', 'flowers', 'custom'),
)


def main():
    parser = create_parser(__doc__)
    add = parser.add_argument
    add('name', nargs='?', choices=NAMES, help='data set to prepare')
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
        parser.error(f'name one of {", ".join(NAMES)}, or use --list')
    if args.subset_list is not None and not str(args.name).startswith('imagenet-'):
        parser.error('--subset-list requires imagenet-1percent or imagenet-10percent')

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.cli.prepare import run_preparation

    with plain_errors(args.debug):
        run_preparation(args)


if __name__ == '__main__':
    main()
