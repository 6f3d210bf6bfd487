"""Benchmarks that train: MMEngine's runner on the benchmark's config, with our backbone."""

from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from ..runs import Curve, read_run, separate_logs
from .job import Job, Outcome


@dataclass(frozen=True)
class Training:
    """Train on top of the checkpoint, or continue an interrupted training.

    ``model`` of the config is a ``LayerwiseProbe`` or a classifier of MMClassification. Its
    backbone, its preprocessor and the input width of its head, if it has one, are set here.
    """

    def metrics(self) -> None:
        """Any metric of the log may be reported."""

    def __call__(self, job: Job) -> Outcome:
        """Train and read the reported metric from the log."""
        config = _training_config(job, job.build_backbone())
        runner = Runner.from_cfg(config)
        _check_classes(runner, config.model.get('num_classes') or config.model.head.num_classes)
        runner.train()
        return _outcome(job, read_run(job.work_dir).curves, runner.epoch)


def _training_config(job: Job, backbone: nn.Module) -> Config:
    config = Config(job.config.to_dict())
    config.work_dir = str(job.work_dir)
    config.randomness = dict(seed=job.seed)
    config.resume = True
    if 'fraction' in config.train_dataloader.dataset:
        config.train_dataloader.dataset.seed = job.seed  # The seed also draws the labels.
    separate_logs(config, job.benchmark.name)
    config.model.backbone = job.backbone_config()
    config.model.data_preprocessor = job.backbone.preprocessor_config()
    if 'head' in config.model:
        with torch.no_grad():
            config.model.head.in_channels = backbone(torch.zeros(1, 3, 64, 64))[-1].size(1)
    return config


def _check_classes(runner: Runner, num_classes: int) -> None:
    """Refuse labels without an output of the classifier, and outputs without training images."""
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
    curve = curves.get(job.benchmark.metric)
    if curve is None:
        raise ValueError(
            f'The log of {job.work_dir} has no metric {job.benchmark.metric!r}; it has '
            f'{", ".join(sorted(curves))}. Set benchmark.metric of the config to one of them.'
        )
    evaluated = {name: curve.value[-1] for name, curve in curves.items() if '/' in name}
    return Outcome(curve.value[-1], max(curve.value), epochs, evaluated)
