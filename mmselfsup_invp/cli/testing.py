"""The evaluation of a checkpoint as ``tools/test.py`` runs it."""

from argparse import Namespace
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor

from ..config_checks import check_config
from ..engine import KNNEvalHook
from ..engine.hooks.common import unwrap
from ..evaluation.checkpoints import PREFIX, check_fit, read_checkpoint
from .launching import process_group
from .options import read_run_config


def load_config(args: Namespace) -> Config:
    """Read the config and apply the arguments of ``tools/test.py``."""
    cfg = read_run_config(args)
    cfg.work_dir = args.work_dir
    cfg.load_from = args.checkpoint
    cfg.resume = False
    return cfg


def test(cfg: Config) -> None:
    """Evaluate the checkpoint ``cfg.load_from`` by the test loop of its config, or its KNNEvalHook.

    Without a checkpoint the initialised network is evaluated.
    """
    check_config(cfg)
    with process_group(cfg):
        _evaluate(cfg)


def _evaluate(cfg: Config) -> None:
    weights = read_weights(cfg.load_from) if cfg.load_from else None
    runner = Runner.from_cfg(cfg)
    model = unwrap(runner.model)
    hook = None if runner.test_loop is not None else knn_hook(runner)
    if weights is not None:
        backbone_alone = hook is not None and hook.galleries == ['backbone']
        check_fit(model, weights, cfg.load_from, PREFIX if backbone_alone else '')
    if hook is None:
        runner.test()
        return
    model.init_weights()
    runner.load_or_resume()
    accuracies = hook.evaluate(runner)
    runner.visualizer.add_scalars({f'knn/{name}': value for name, value in accuracies.items()})
    for name, value in accuracies.items():
        runner.logger.info(f'knn/{name}: {value:.2f} %')


def read_weights(checkpoint: str) -> dict[str, Tensor]:
    """Weights of a checkpoint, a path or a URL."""
    if '://' in checkpoint:
        content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
        return content.get('state_dict', content)
    return read_checkpoint(Path(checkpoint))['state_dict']


def knn_hook(runner: Runner) -> KNNEvalHook:
    """The KNNEvalHook of a runner."""
    for hook in runner.hooks:
        if isinstance(hook, KNNEvalHook):
            return hook
    raise ValueError(
        'The config has neither a test loop (test_dataloader, test_cfg, test_evaluator) nor a '
        'KNNEvalHook (default_hooks.knn), so there is nothing to evaluate. Add labelled images as '
        'in docs/en/own_data.md, "Labels for monitoring".'
    )
