"""Write the backbone of a pre-training checkpoint in the form that another library reads.

python tools/export.py work_dirs/invp/epoch_800.pth --to torchvision
python tools/export.py work_dirs/invp/epoch_800.pth --to detectron2 --out R-50.pkl

The file is verified before it gets its name: by equal forward passes of both networks, for
Detectron2 by the names and shapes of its weights.
"""

import argparse
import textwrap

from mmselfsup_invp.export import TARGETS, Export, export_backbone


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='epoch_*.pth of a pre-training run')
    parser.add_argument('--to', choices=TARGETS, required=True, help='library that shall read it')
    parser.add_argument(
        '--out', help='file to write (default: beside the checkpoint, the library in its name)'
    )
    parser.add_argument('--force', action='store_true', help='replace an existing file')
    return parser.parse_args()


def report(export: Export) -> str:
    """What was written, how it was verified and how it is loaded."""
    verified, meta = export.verified, export.meta
    how = verified.how
    if verified.difference is not None:
        how += f'; largest difference {verified.difference:.2g}'
    pixels = f'{meta["channel_order"]}, 0 to 255'
    if 'mean' in meta:
        pixels += f', minus {meta["mean"]}, divided by {meta["std"]}'
    return (
        f'Written:   {export.path} ({export.tensors} tensors, {export.values:,} values)\n'
        f'Network:   {meta["network"]}, {meta["epochs"]} epochs of {meta["experiment"]}\n'
        f'Verified:  {how}\n'
        f'Images:    {pixels}\n'
        f'Load it by\n{textwrap.indent(export.usage, "    ")}'
    )


def main() -> None:
    args = parse_args()
    try:
        export = export_backbone(args.checkpoint, args.to, args.out, args.force)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(report(export))


if __name__ == '__main__':
    main()
