"""Train a model: python tools/train.py CONFIG [options], as in MMSelfSup."""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

# The package mends the host, registers its parts and names mmselfsup_invp:: configs.
from mmselfsup_invp.cli.arguments import add_run_arguments, parse_run_arguments
from mmselfsup_invp.cli.errors import plain_errors, was_stopped
from mmselfsup_invp.cli.work_folder import how_to_go_on, prepare_resume
from mmselfsup_invp.config import merge_options, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', help='path of the config, or PACKAGE::PATH of one in an installed package'
    )
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, a path or a name in the work folder; without one, from '
        'the latest in the work folder',
    )
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    add_run_arguments(parser)
    return parse_run_arguments(parser)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and let the command line have the last word."""
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        config = Path(args.config)
        cfg.work_dir = str(Path('work_dirs') / config.parent.name / config.stem)
    if args.amp:
        use_amp(cfg)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    return cfg


def use_amp(cfg: Config) -> None:
    """Turn the optimiser wrapper into the one for mixed precision."""
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            f'--amp works with OptimWrapper, the config has optim_wrapper.type = {wrapper!r}.'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def train(cfg: Config) -> None:
    """Train, and say how to go on where that is interrupted."""
    prepare_resume(cfg)
    try:
        Runner.from_cfg(cfg).train()
    except BaseException as error:
        if not was_stopped(error):
            raise
        raise KeyboardInterrupt(how_to_go_on(cfg)) from error


def main() -> None:
    args = parse_args()
    with plain_errors(args.debug):
        train(load_config(args))


if __name__ == '__main__':
    main()
