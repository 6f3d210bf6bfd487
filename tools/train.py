"""Train a model: python tools/train.py CONFIG [options], as in MMSelfSup.

Without a config, on a folder of images: python tools/train.py --images FOLDER
"""

import sys

from command_line import create_run_parser, require_packages


def main():
    parser = create_run_parser(__doc__, images=True)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint, a path or a name in the work folder; without a value, '
        'from the latest in the work folder',
    )
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size of all processes divided by '
        'auto_scale_lr.base_batch_size of the config',
    )
    parser.add_argument(
        '--log-to',
        nargs='+',
        choices=['tensorboard', 'wandb'],
        help='write losses and metrics to these trackers too',
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='examine config, images, memory, disk and speed instead of training; exit code 1 if '
        'the run cannot start',
    )
    args = parser.parse_args()
    if args.recipe and not args.images:
        parser.error('--recipe belongs to --images FOLDER; change a config by --cfg-options')

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.cli.doctor import report
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.cli.training import load_config, train

    with plain_errors(args.debug):
        cfg = load_config(args)
        if args.dry_run:
            sys.exit(report(cfg))
        train(cfg)


if __name__ == '__main__':
    main()
