"""Write the backbone of a pre-training checkpoint in the format of another library.

python tools/export.py work_dirs/invp/epoch_800.pth --to torchvision
python tools/export.py work_dirs/invp/epoch_800.pth --to detectron2 --out R-50.pkl
python tools/export.py work_dirs/invp/epoch_800.pth --to mmselfsup

mmselfsup writes any network, for the benchmark scripts of MMSelfSup and MMDetection; the other
libraries support ResNets. The file is verified before it is moved to its place: both networks must
give equal features.
"""

import textwrap

from command_line import create_parser, require_packages


def main():
    parser = create_parser(__doc__)
    parser.add_argument('checkpoint', help='epoch_*.pth of a pre-training run')
    parser.add_argument(
        '--to',
        choices=['torchvision', 'timm', 'detectron2', 'mmdet', 'mmselfsup'],
        required=True,
        help='library that reads the file',
    )
    parser.add_argument(
        '--out', help='file to write (default: beside the checkpoint, named after the library)'
    )
    parser.add_argument('--force', action='store_true', help='replace an existing file')
    args = parser.parse_args()

    require_packages(args)
    # Imported late, because importing PyTorch would delay --help.
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.export import export_backbone

    with plain_errors(args.debug):
        print(summary(export_backbone(args.checkpoint, args.to, args.out, args.force)))


def summary(export):
    """Describe the file, its verification and how to load it."""
    verified, meta = export.verified, export.meta
    pixels = f'{meta["channel_order"]}, 0 to 255'
    if 'mean' in meta:
        pixels += f', minus {meta["mean"]}, divided by {meta["std"]}'
    return (
        f'Written:   {export.path} ({export.tensors} tensors, {export.values:,} values)\n'
        f'Network:   {meta["network"]}, {meta["epochs"]} epochs of {meta["experiment"]}\n'
        f'Verified:  {verified.method}; largest difference {verified.difference:.2g}\n'
        f'Images:    {pixels}\n'
        f'Load it by\n{textwrap.indent(export.usage, "    ")}'
    )


if __name__ == '__main__':
    main()
