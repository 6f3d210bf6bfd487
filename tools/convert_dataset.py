"""Write a data set as the image folders that the configs read.

python tools/convert_dataset.py digits data/digits
python tools/convert_dataset.py cifar10 data/cifar10 --source downloads
"""

import argparse

from mmselfsup_invp.datasets.converters import READERS, convert_digits, convert_torchvision


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', choices=['digits', *READERS])
    parser.add_argument('root', help='folder to write')
    parser.add_argument(
        '--source',
        default='downloads',
        help="folder of torchvision's download; missing files are fetched (default: %(default)s)",
    )
    args = parser.parse_args()
    try:
        if args.name == 'digits':
            written = convert_digits(args.root)
        else:
            written = convert_torchvision(args.name, args.source, args.root)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    for split in ('train', 'test'):
        state = f'{written[split]} images written' if split in written else 'already complete'
        print(f'{args.root}/{split}: {state}')


if __name__ == '__main__':
    main()
