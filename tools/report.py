"""Write one HTML page about a run: python tools/report.py RUN [options].

RUN is the work folder of tools/train.py. The page has learning curves, the health of graph and
clusters, the figures of the papers (similarities, easy and hard positives, the walk, retrieval,
t-SNE) and benchmark results from RUN/benchmarks, as far as they are there. It needs no network.
"""

import argparse
from pathlib import Path

from mmselfsup_invp.visualization import Options, write_report
from mmselfsup_invp.visualization.source import folder, usable_device


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', type=Path, help='work folder of the run')
    parser.add_argument('--out', type=Path, help='file to write (default: RUN/report.html)')
    parser.add_argument('--checkpoint', help='checkpoint to look at (default: the latest)')
    parser.add_argument(
        '--data', help='folder of the data set, where it is not where the config says'
    )
    parser.add_argument(
        '--anchors',
        nargs='+',
        type=int,
        default=(),
        help='numbers of the training images whose positives are shown (default: 4 are drawn)',
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=Options.max_images,
        help='of larger data sets so many images are drawn (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of all draws (default: %(default)s)')
    parser.add_argument(
        '--device', help='what the network runs on (default: a GPU where there is one, else cpu)'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = args.out or args.run / 'report.html'
    try:
        options = Options(
            anchors=tuple(args.anchors),
            data_root=folder(args.data),
            max_images=args.max_images,
            seed=args.seed,
            device=usable_device(args.device),
        )
        write_report(args.run, out, options, args.checkpoint, lambda line: print(line, flush=True))
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f'{error}') from error
    print(out)


if __name__ == '__main__':
    main()
