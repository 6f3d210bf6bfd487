"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT [options].

A config with a test loop is evaluated by it, as in the other toolboxes of OpenMMLab. For a
pre-training config, which has none, the kNN accuracy is measured as its KNNEvalHook specifies.
Without a checkpoint the initialised network is evaluated, by the backbone gallery alone, since its
memory bank is empty.
"""

from command_line import create_run_parser, require_packages


def main():
    parser = create_run_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint to evaluate')
    parser.add_argument('--work-dir', default='work_dirs/test', help='folder for logs')
    args = parser.parse_args()

    require_packages(args)
    # Imported late, so that --help is answered at once.
    from mmselfsup_invp.cli.errors import plain_errors
    from mmselfsup_invp.cli.testing import load_config, test

    with plain_errors(args.debug):
        test(load_config(args))


if __name__ == '__main__':
    main()
