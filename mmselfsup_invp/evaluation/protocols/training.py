"""Benchmarks that train: MMEngine's runner on the benchmark's config, with our backbone."""

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ..runs import Curve, read_run, separate_logs
from .job import Job, Outcome


def run_training(job: Job) -> Outcome:
    """Train on top of the checkpoint, or go on where an earlier call was interrupted.

    ``model`` of the config is a ``LayerwiseProbe`` or a classifier of MMClassification; its backbone,
    preprocessor and, where there is one, the width of its head are set here.

    Raises:
        ValueError: If the data set has other classes than the config says, or a weight of the
            checkpoint did not arrive.
    """
    backbone = job.build_backbone()
    config = _training_config(job, _width(backbone))
    runner = Runner.from_cfg(config)
    _check_classes(runner, config.model.get('num_classes') or config.model.head.num_classes)
    runner.train()
    return _outcome(job, read_run(job.work_dir).curves, runner.epoch)


def _width(backbone: torch.nn.Module) -> int:
    """Channels of the last feature map."""
    with torch.no_grad():
        return backbone(torch.zeros(1, 3, 64, 64))[-1].size(1)


def _training_config(job: Job, width: int) -> Config:
    config = Config(job.config.to_dict())
    config.work_dir = str(job.work_dir)
    config.randomness = dict(seed=job.seed)
    config.resume = True
    if 'fraction' in config.train_dataloader.dataset:
        config.train_dataloader.dataset.seed = job.seed  # Other labels, too.
    separate_logs(config, job.benchmark.name)
    config.model.backbone = job.backbone_config()
    config.model.data_preprocessor = job.preprocessor_config()
    if 'head' in config.model:
        config.model.head.in_channels = width
    return config


def _check_classes(runner: Runner, num_classes: int) -> None:
    """Refuse labels that the classifier has no output for, and outputs without images to learn."""
    for split, loop in (('training', runner.train_loop), ('test', runner.val_loop)):
        source = loop.dataloader.dataset
        labels = {label for index in range(len(source)) for label in source.get_cat_ids(index)}
        most = max(labels) + 1
        if most > num_classes or (split == 'training' and most < num_classes):
            raise ValueError(
                f'The config says {num_classes} classes, but the {split} labels of '
                f'{source.ann_file or source.data_root} run from {min(labels)} to {max(labels)}. '
                'Set num_classes in the model of the config, or give the right data set.'
            )


def _outcome(job: Job, curves: dict[str, Curve], epochs: int) -> Outcome:
    counted = curves.get(job.benchmark.metric)
    if counted is None:
        raise ValueError(
            f'The log of {job.work_dir} has no figure {job.benchmark.metric!r}; it has '
            f'{", ".join(sorted(curves))}. Mend benchmark.metric of the config.'
        )
    evaluated = {name: curve.value[-1] for name, curve in curves.items() if '/' in name}
    return Outcome(counted.value[-1], max(counted.value), epochs, evaluated)
