"""Examine a run before it starts: python tools/doctor.py CONFIG, or --images FOLDER.

Prints a page about versions, config, images, memory, disk and speed, in about 20 seconds. The exit
code is 1 if the run cannot start. ``tools/train.py --dry-run`` does the same.
"""

import sys

from command_line import create_run_parser, require_packages


def main():
    parser = create_run_parser(__doc__, images=True)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints of the run')
    parser.set_defaults(amp=False, auto_scale_lr=False, resume=None, log_to=None)
    args = parser.parse_args()

    require_packages(args)
    from mmselfsup_invp.cli.doctor import report
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.cli.training import load_config

    with plain_errors(args.debug):
        sys.exit(report(load_config(args)))


if __name__ == '__main__':
    main()
