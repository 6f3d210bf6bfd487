"""Evaluate a checkpoint by the protocols of the papers.

python tools/benchmark.py --list
python tools/benchmark.py --list voc07
python tools/benchmark.py work_dirs/invp/epoch_800.pth --protocol imagenet-linear
python tools/benchmark.py work_dirs/invp/epoch_800.pth --protocol voc07-svm voc07-lowshot
python tools/benchmark.py work_dirs/invp/epoch_800.pth --protocol custom-knn --data photos
python tools/benchmark.py work_dirs/invp/epoch_800.pth --protocol my_benchmark.py --random-init

Detection also runs on several GPUs:

torchrun --nproc_per_node=8 tools/benchmark.py work_dirs/invp/epoch_800.pth \\
    --protocol voc0712-detection --launcher pytorch

Results are written to the folder benchmarks beside the checkpoint: a JSON file for each protocol,
and the table results.md. Finished protocols are not repeated, interrupted ones are resumed. Another
checkpoint, config or data set of the same name gets a result of its own.
"""

from pathlib import Path

from command_line import add_config_options, create_parser, require_packages


def main():
    parser = create_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?', help='epoch_*.pth of a pre-training run')
    parser.add_argument(
        '--protocol', nargs='+', default=[], help='names from --list, or paths of configs'
    )
    parser.add_argument(
        '--list',
        nargs='?',
        const='',
        metavar='PREFIX',
        help='show the names of all protocols and whether their data are ready, or describe those '
        'that begin with PREFIX',
    )
    parser.add_argument('--data', help='folder of the data set (default: that of the config)')
    parser.add_argument(
        '--random-init', action='store_true', help='evaluate the network with random weights'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--out', type=Path, help='folder of the results (default: benchmarks beside the checkpoint)'
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='delete earlier results of these protocols and run them again',
    )
    add_config_options(parser, 'the protocol', 'of a distributed run; for detection only')
    args = parser.parse_args()
    if args.list is None and not (args.checkpoint and args.protocol):
        parser.error('give a checkpoint and --protocol, or --list')

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.cli.benchmark import run_protocols, show_list
    from mmselfsup_invp.cli.errors import plain_errors

    with plain_errors(args.debug):
        if args.list is None:
            run_protocols(args)
        else:
            show_list(args.list, args.data)


if __name__ == '__main__':
    main()
