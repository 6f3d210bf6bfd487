"""Write a data set as the image folders that the configs read.

python tools/convert_dataset.py digits data/digits
python tools/convert_dataset.py cifar10 data/cifar10 --source downloads
"""

from command_line import create_parser, require_packages

# Written out, because importing the package would delay --help.
NAMES = 'digits', 'cifar10', 'cifar100', 'svhn'


def main():
    parser = create_parser(__doc__)
    parser.add_argument('name', choices=NAMES)
    parser.add_argument('root', help='folder to write')
    parser.add_argument(
        '--source',
        default='downloads',
        help="folder of torchvision's download; missing files are fetched (default: %(default)s)",
    )
    args = parser.parse_args()

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.datasets.converters import convert_digits, convert_torchvision

    with plain_errors(args.debug):
        if args.name == 'digits':
            written = convert_digits(args.root)
        else:
            written = convert_torchvision(args.name, args.source, args.root)
        for split in ('train', 'test'):
            state = f'{written[split]} images written' if split in written else 'already complete'
            print(f'{args.root}/{split}: {state}')


if __name__ == '__main__':
    main()
