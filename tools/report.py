"""Write one HTML page about a run: python tools/report.py RUN [options].

RUN is the work folder of tools/train.py. The page shows whether the run learned and what to change,
an interactive map of the images and their neighbours, learning curves, the health of graph and
clusters, similarities, retrieval and benchmark results from RUN/benchmarks, as far as they exist.
It needs no network. The exit code is 1 if sections are missing because the images cannot be read.

With --walks, a figure of the neighbours of the anchors at each hop is written instead.
"""

import sys
from pathlib import Path

from command_line import create_parser, require_packages


def main():
    parser = create_parser(__doc__)
    parser.add_argument('run', type=Path, help='work folder of the run')
    parser.add_argument('--out', type=Path, help='file to write (default: RUN/report.html)')
    parser.add_argument('--checkpoint', help='checkpoint to read (default: the latest)')
    parser.add_argument('--data', help='folder of the data set (default: that of the config)')
    parser.add_argument(
        '--anchors',
        nargs='+',
        type=int,
        default=(),
        help='indices of the training images whose neighbours are shown (default: 4 at random)',
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=50_000,
        help='number of images to sample from larger data sets (default: %(default)s)',
    )
    parser.add_argument(
        '--walks', type=Path, metavar='OUT', help='write only a figure: OUT.webp, .png or .jpg'
    )
    parser.add_argument('--seed', type=int, default=0, help='random seed (default: %(default)s)')
    parser.add_argument(
        '--device', help='device of the network (default: a GPU where there is one, else cpu)'
    )
    args = parser.parse_args()

    require_packages(args)
    # Imported late, because importing PyTorch would delay --help.
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.visualization import ReportOptions, write_report, write_walks
    from mmselfsup_invp.visualization.options import require_device, require_folder

    out = args.out or args.run / 'report.html'
    with plain_errors(args.debug):
        options = ReportOptions(
            anchors=tuple(args.anchors),
            data_root=require_folder(args.data),
            max_images=args.max_images,
            seed=args.seed,
            device=require_device(args.device),
        )
        if args.walks:
            write_walks(args.run, args.walks, options, args.checkpoint)
            print(args.walks)
            return
        failed = write_report(
            args.run, out, options, args.checkpoint, lambda line: print(line, flush=True)
        )
    print(out)
    if failed:
        sys.exit(
            f'error: the images cannot be read; {", ".join(failed)} are missing in {out}. Give the '
            'folder of the data set by --data.'
        )


if __name__ == '__main__':
    main()
