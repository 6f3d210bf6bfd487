"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT [options].

A config with a test loop is tested by it, as in the other toolboxes of OpenMMLab. A pre-training
config has none; there the kNN accuracy is measured as its KNNEvalHook says. Without a checkpoint
the network is evaluated as it is initialised, by the backbone alone, for its bank is empty.
"""

import argparse
import os

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmselfsup_invp.engine import KNNEvalHook
from mmselfsup_invp.engine.hooks.common import unwrap


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint to evaluate')
    parser.add_argument('--work-dir', default='work_dirs/test', help='folder for logs')
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
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and let the command line have the last word."""
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    return cfg


def knn_hook(runner: Runner) -> KNNEvalHook:
    """The hook that holds the protocol."""
    for hook in runner.hooks:
        if isinstance(hook, KNNEvalHook):
            return hook
    raise SystemExit(
        'The config has neither a test loop (test_dataloader, test_cfg, test_evaluator) nor a '
        'KNNEvalHook among its custom_hooks: nothing says what to measure.'
    )


def main() -> None:
    runner = Runner.from_cfg(load_config(parse_args()))
    if runner.test_loop is not None:
        runner.test()
        return
    unwrap(runner.model).init_weights()
    runner.load_or_resume()
    accuracies = knn_hook(runner).evaluate(runner)
    runner.visualizer.add_scalars({f'knn/{name}': value for name, value in accuracies.items()})
    for name, value in accuracies.items():
        runner.logger.info(f'knn/{name}: {value:.2f} %')


if __name__ == '__main__':
    main()
