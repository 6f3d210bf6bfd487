"""Evaluate a checkpoint: python tools/test.py CONFIG CHECKPOINT [options].

A config with a test loop is tested by it, as in the other toolboxes of OpenMMLab. A pre-training
config has none; there the kNN accuracy is measured as its KNNEvalHook says. Without a checkpoint
the network is evaluated as it is initialised, by the backbone alone, for its bank is empty.
"""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor

from mmselfsup_invp.cli.arguments import add_run_arguments, parse_run_arguments
from mmselfsup_invp.cli.errors import plain_errors
from mmselfsup_invp.config import merge_options, read_config
from mmselfsup_invp.engine import KNNEvalHook
from mmselfsup_invp.engine.hooks.common import unwrap
from mmselfsup_invp.evaluation.checkpoints import PREFIX, check_fit, read_checkpoint


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help='path of the config, or PACKAGE::PATH of one in an installed package'
    )
    parser.add_argument('checkpoint', nargs='?', help='checkpoint to evaluate')
    parser.add_argument('--work-dir', default='work_dirs/test', help='folder for logs')
    add_run_arguments(parser)
    return parse_run_arguments(parser)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and let the command line have the last word."""
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir
    cfg.load_from = args.checkpoint
    cfg.resume = False
    merge_options(cfg, args.cfg_options)
    return cfg


def read_weights(checkpoint: str) -> dict[str, Tensor]:
    """The weights of a checkpoint; a URL is downloaded, once for all."""
    if '://' in checkpoint:
        content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
        return content.get('state_dict', content)
    return read_checkpoint(Path(checkpoint))['state_dict']


def knn_hook(runner: Runner) -> KNNEvalHook:
    """The hook that holds the protocol."""
    for hook in runner.hooks:
        if isinstance(hook, KNNEvalHook):
            return hook
    raise ValueError(
        'The config has neither a test loop (test_dataloader, test_cfg, test_evaluator) nor a '
        'KNNEvalHook (default_hooks.knn): nothing says what to measure. Give it images to '
        'classify, as docs/en/own_data.md shows under "Labels to watch".'
    )


def measured_part(runner: Runner) -> str:
    """What the names of the weights begin with that count in the evaluation."""
    if runner.test_loop is None and knn_hook(runner).galleries == ['backbone']:
        return PREFIX
    return ''


def test(cfg: Config) -> None:
    """Make sure that the checkpoint is of this model, and evaluate it."""
    weights = read_weights(cfg.load_from) if cfg.load_from else None
    runner = Runner.from_cfg(cfg)
    model = unwrap(runner.model)
    if weights is not None:
        check_fit(model, weights, cfg.load_from, measured_part(runner))
    if runner.test_loop is not None:
        runner.test()
        return
    hook = knn_hook(runner)
    model.init_weights()
    runner.load_or_resume()
    accuracies = hook.evaluate(runner)
    runner.visualizer.add_scalars({f'knn/{name}': value for name, value in accuracies.items()})
    for name, value in accuracies.items():
        runner.logger.info(f'knn/{name}: {value:.2f} %')


def main() -> None:
    args = parse_args()
    with plain_errors(args.debug):
        test(load_config(args))


if __name__ == '__main__':
    main()
