"""Benchmarks that only look at frozen features: kNN, similarities and SVMs."""

import json
from collections import UserDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from rich.progress import track
from torch import Tensor

from ...datasets.files import write_whole
from ..knn import knn_accuracy
from ..similarity import similarity_distribution, similarity_figures
from .features import Split, splits_of
from .job import Job, Outcome


def run_knn(job: Job) -> Outcome:
    """Weighted kNN on pooled features. Options: ``k``, ``temperature``."""
    gallery, query = splits_of(job, 'train', 'test')
    options = job.benchmark.options
    accuracy = knn_accuracy(
        *_labelled(query), *_labelled(gallery), options['k'], options['temperature']
    )
    return _outcome(job, {job.benchmark.metric: accuracy})


def run_similarity(job: Job) -> Outcome:
    """How well similarities tell test images of a class from others: Figure 2a of InvP in figures.

    Options: ``num_neighbours``, ``num_others``, ``num_queries`` of
    :func:`~mmselfsup_invp.evaluation.similarity_distribution`.
    """
    (split,) = splits_of(job, 'test')
    feature, label = _labelled(split)
    generator = torch.Generator().manual_seed(job.seed)
    same, other = similarity_distribution(
        feature, label, **job.benchmark.options, generator=generator
    )
    return _outcome(job, similarity_figures(same, other))


def run_svm(job: Job) -> Outcome:
    """Linear SVMs on all labels. Options: those of ``SVMProtocol``.

    Images that show difficult objects of a class alone count as its negatives in training, as in
    the benchmark of the toolbox, and not at all in the test.
    """
    from ..svm import SVMProtocol  # scikit-learn takes a second to import.

    (feature, target), (test_feature, test_target) = _unit_splits(job)
    protocol = SVMProtocol(**job.benchmark.options, seed=job.seed)
    kept = _Kept(job.work_dir / 'classes.json')
    names = [f'ap/{number:02d}' for number in range(target.shape[1])]
    left = [number for number, name in enumerate(names) if name not in kept]
    classes = protocol.each_class(feature, target.clip(min=0), test_feature, test_target, left)
    for number, value in track(classes, 'SVMs', total=len(left)):
        kept[names[number]] = value
    each = {name: kept[name] for name in names}
    return _outcome(job, {job.benchmark.metric: float(np.nanmean([*each.values()])), **each})


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
    kept = _Kept(job.work_dir / 'draws.json')
    for shot, sample in track(draws, 'few shots'):
        if f'{shot}/{sample}' not in kept:
            few = few_shot_target(target, shot, seed=job.seed * samples + sample)
            each = protocol.average_precisions(feature, few, test_feature, test_target)
            kept[f'{shot}/{sample}'] = float(np.nanmean(each))
    means = {
        f'shots/{shot:02d}': float(np.mean([kept[f'{shot}/{sample}'] for sample in range(samples)]))
        for shot in shots
    }
    return _outcome(job, {job.benchmark.metric: float(np.mean(list(means.values()))), **means})


class _Kept(UserDict):
    """Figures that are written down as they come, so that an interrupted call goes on with them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        if path.is_file():
            self.data.update(json.loads(path.read_text()))

    def __setitem__(self, key: str, value: float) -> None:
        super().__setitem__(key, value)
        write_whole(self.path, json.dumps(self.data))


def _outcome(job: Job, figures: dict[str, float]) -> Outcome:
    value = figures[job.benchmark.metric]
    return Outcome(last=value, best=value, epochs=0, figures=figures)


def _labelled(split: Split) -> tuple[Tensor, Tensor]:
    """Unit features and the single label of each image, on the device."""
    feature, target = split
    return F.normalize(feature.to(get_device())), target.argmax(dim=1).to(get_device())


def _unit_splits(job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
    from ..svm import unit_features

    return [
        (unit_features(feature.numpy()), target.numpy())
        for feature, target in splits_of(job, 'train', 'test')
    ]
