"""Benchmarks that only look at frozen features: kNN and SVMs."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmselfsup.registry import MODELS
from rich.progress import track
from torch import Tensor, nn

from ...datasets.info import label_vector
from ..knn import knn_accuracy
from .job import Job, Outcome

# Features (N, D), and targets (N, C) of 1, 0 and -1, whether images have one label or many.
Split = tuple[Tensor, Tensor]


def run_knn(job: Job) -> Outcome:
    """Weighted kNN on pooled features. Options: ``k``, ``temperature``."""
    (gallery, gallery_target), (query, query_target) = _both_splits(job)
    options = job.benchmark.options
    accuracy = knn_accuracy(
        F.normalize(query),
        query_target.argmax(dim=1),
        F.normalize(gallery),
        gallery_target.argmax(dim=1),
        options['k'],
        options['temperature'],
    )
    return _outcome(job, {job.benchmark.metric: accuracy})


def run_svm(job: Job) -> Outcome:
    """Linear SVMs on all labels. Options: those of ``SVMProtocol``.

    Images that show difficult objects of a class alone count as its negatives in training, as in
    the benchmark of the toolbox, and not at all in the test.
    """
    from ..svm import SVMProtocol  # scikit-learn takes a second to import.

    (feature, target), (test_feature, test_target) = _unit_splits(job)
    protocol = SVMProtocol(**job.benchmark.options, seed=job.seed)
    found = protocol.average_precisions(feature, target.clip(min=0), test_feature, test_target)
    each = {f'ap/{number:02d}': value for number, value in enumerate(found)}
    return _outcome(job, {job.benchmark.metric: float(np.nanmean(found)), **each})


def run_few_shot(job: Job) -> Outcome:
    """Linear SVMs on a few positives a class, the mean over shots and samples.

    Options: ``shots``, ``samples`` (draws of each), and those of ``SVMProtocol``.
    """
    from ..svm import SHOTS, SVMProtocol, few_shot_target

    options = dict(job.benchmark.options)
    shots, samples = options.pop('shots', SHOTS), options.pop('samples', 5)
    (feature, target), (test_feature, test_target) = _unit_splits(job)
    protocol = SVMProtocol(**options, seed=job.seed)
    draws = [(shot, sample) for shot in shots for sample in range(samples)]
    found: dict[int, list[float]] = {shot: [] for shot in shots}
    for shot, sample in track(draws, 'few shots'):
        few = few_shot_target(target, shot, seed=job.seed * samples + sample)
        each = protocol.average_precisions(feature, few, test_feature, test_target)
        found[shot].append(float(np.nanmean(each)))
    means = {f'shots/{shot:02d}': float(np.mean(values)) for shot, values in found.items()}
    return _outcome(job, {job.benchmark.metric: float(np.mean(list(means.values()))), **means})


def _outcome(job: Job, figures: dict[str, float]) -> Outcome:
    value = figures[job.benchmark.metric]
    return Outcome(last=value, best=value, epochs=0, figures=figures)


def _unit_splits(job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
    from ..svm import unit_features

    return [
        (unit_features(feature.cpu().numpy()), target.cpu().numpy())
        for feature, target in _both_splits(job)
    ]


def _both_splits(job: Job) -> list[Split]:
    """Features and targets of the training and the test images.

    They are kept in the work folder for a second call; :func:`~.finished` says whether what lies
    there is of this job.
    """
    device = get_device()
    backbone = job.build_backbone().to(device)
    preprocessor = MODELS.build(job.preprocessor_config()).to(device)
    return [_split(job, name, backbone, preprocessor) for name in ('train', 'test')]


@torch.no_grad()
def _split(job: Job, name: str, backbone: nn.Module, preprocessor: nn.Module) -> Split:
    job.work_dir.mkdir(parents=True, exist_ok=True)
    kept = Path(job.work_dir) / f'features_{name}.pth'
    if kept.is_file():
        return tuple(torch.load(kept, weights_only=True))
    with DefaultScope.overwrite_default_scope('mmselfsup'):
        loader = Runner.build_dataloader(job.config[f'{name}_dataloader'], seed=job.seed)
    pool = nn.AdaptiveAvgPool2d(job.config.pool_size)
    features, targets = [], []
    for batch in track(loader, f'features of {name}'):
        data = preprocessor(batch)
        features.append(pool(backbone(data['inputs'])[-1]).flatten(1))
        targets += [
            label_vector(
                sample.gt_label.label, sample.get('gt_label_difficult'), job.config.num_classes
            )
            for sample in data['data_samples']
        ]
    split = (torch.cat(features), torch.stack(targets))
    torch.save([part.cpu() for part in split], kept.with_suffix('.unfinished'))
    kept.with_suffix('.unfinished').replace(kept)
    return split
