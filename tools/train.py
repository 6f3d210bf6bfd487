"""Train a model: python tools/train.py CONFIG [options], as in MMSelfSup."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.hub import get_config
from mmengine.runner import Runner

import mmselfsup_invp  # noqa: F401  (mends the host; registers; names mmselfsup_invp:: configs)


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
        help='go on from this checkpoint; without a path, from the latest in the work folder',
    )
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config: key=value, key="[a,b]", key.inner=value',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed run',
    )
    # torch.distributed.launch hands the rank over in either spelling.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and let the command line have the last word."""
    cfg = get_config(args.config) if '::' in args.config else Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
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
        raise SystemExit(
            f'--amp works with OptimWrapper, the config has optim_wrapper.type = {wrapper!r}.'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def main() -> None:
    Runner.from_cfg(load_config(parse_args())).train()


if __name__ == '__main__':
    main()
