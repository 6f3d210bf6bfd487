"""Benchmarks on frozen features: kNN, similarities and SVMs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from rich.progress import track
from torch import Tensor

from ...datasets.files import write_whole
from ...options import PositiveFloat, PositiveInt, checked
from ..knn import knn_accuracy
from ..similarity import similarity_distribution, similarity_metrics
from ..svm import SHOTS, LinearSVMs, few_shot_target, unit_features
from .features import Split, splits_of
from .job import Job, Outcome

CostSelection = Literal['test', 'cross_validation']


@checked
@dataclass(frozen=True)
class WeightedKNN:
    """Weighted kNN on pooled features; see :func:`~mmselfsup_invp.evaluation.knn_predict`."""

    k: PositiveInt
    temperature: PositiveFloat

    def metrics(self) -> list[str]:
        return [f'k{self.k}_t{self.temperature}']

    def __call__(self, job: Job) -> Outcome:
        gallery, query = splits_of(job, 'train', 'test')
        accuracy = knn_accuracy(*_labelled(query), *_labelled(gallery), self.k, self.temperature)
        return _outcome(job, {self.metrics()[0]: accuracy})


@checked
@dataclass(frozen=True)
class Similarity:
    """Similarity of test images to their own class and to others: Figure 2a of InvP.

    The fields are the options of :func:`~mmselfsup_invp.evaluation.similarity_distribution`.
    """

    num_neighbours: PositiveInt = 5
    num_others: PositiveInt = 1500
    num_queries: PositiveInt | None = None

    def metrics(self) -> list[str]:
        return ['auroc']

    def __call__(self, job: Job) -> Outcome:
        (split,) = splits_of(job, 'test')
        generator = torch.Generator().manual_seed(job.seed)
        distributions = similarity_distribution(
            *_labelled(split), self.num_neighbours, self.num_others, self.num_queries, generator
        )
        return _outcome(job, similarity_metrics(*distributions))


@checked
@dataclass(frozen=True)
class SVM(LinearSVMs):
    """Linear SVMs on all labels, the cost of each class by cross-validation.

    In training, images that show only difficult objects of a class are negatives of that class, as
    in MMSelfSup; in the test they do not count.
    """

    def metrics(self) -> list[str]:
        return ['mAP']

    def __call__(self, job: Job) -> Outcome:
        (feature, target), (test_feature, test_target) = _unit_splits(job)
        target = target.clip(min=0)

        def average_precision(number: int) -> float:
            train, test = (feature, target[:, [number]]), (test_feature, test_target[:, [number]])
            return self.cross_validated(train, test, job.seed).item()

        stored = _Stored(average_precision, job.work_dir / 'classes.json')
        classes = track(range(target.shape[1]), 'SVMs')
        values = {f'ap/{number:02d}': stored(number) for number in classes}
        return _outcome(job, dict(mAP=float(np.nanmean([*values.values()])), **values))


@checked
@dataclass(frozen=True)
class FewShotSVM(LinearSVMs):
    """Linear SVMs on a few positives a class, the mean over numbers of shots.

    Attributes:
        shots (Sequence[int]): Numbers of positives a class. Defaults to 1, 2, 4, ... 64, 96.
        samples (int): Draws for each of them. Defaults to 5.
        cost_selection (str): ``'test'``: for each number of shots the cost with the highest mean
            average precision over draws and classes on the test set. This is the protocol of the
            published results (MMSelfSup's ``aggregate_low_shot_svm_stats.py``), which uses the test
            labels. ``'cross_validation'``: each class and draw selects its cost on the few training
            labels. Defaults to ``'test'``.
    """

    shots: Sequence[PositiveInt] = SHOTS
    samples: PositiveInt = 5
    cost_selection: CostSelection = 'test'

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shots:
            raise ValueError('shots is empty; at least one number is needed.')

    def metrics(self) -> list[str]:
        return ['mAP']

    def __call__(self, job: Job) -> Outcome:
        train, test = _unit_splits(job)

        def candidates(shots: int, seed: int) -> list[float]:
            """Mean average precision of a draw with each cost, or with the selected ones."""
            few = train[0], few_shot_target(train[1], shots, seed)
            if self.cost_selection == 'test':
                return np.nanmean(self.each_cost(few, test, job.seed), axis=0).tolist()
            return [np.nanmean(self.cross_validated(few, test, job.seed)).item()]

        stored = _Stored(candidates, job.work_dir / 'draws.json')
        seeds = range(job.seed * self.samples, (job.seed + 1) * self.samples)
        values = {}
        for shots in track(self.shots, 'few shots'):
            draws = [stored(shots, seed) for seed in seeds]
            values[f'shots/{shots:02d}'] = float(np.mean(draws, axis=0).max())
        return _outcome(job, dict(mAP=float(np.mean([*values.values()])), **values))


class _Stored:
    """A function of integers with its values in a JSON file, so that an interrupted call continues.

    Not ``joblib.Memory``, which unpickles its files: they may come with the checkpoint of a
    stranger.
    """

    def __init__(self, function: Callable[..., Any], path: Path) -> None:
        self.function = function
        self.path = path
        self.values = json.loads(path.read_text()) if path.is_file() else {}

    def __call__(self, *inputs: int) -> Any:
        key = '/'.join(map(str, inputs))
        if key not in self.values:
            self.values[key] = self.function(*inputs)
            write_whole(self.path, json.dumps(self.values))
        return self.values[key]


def _outcome(job: Job, metrics: dict[str, float]) -> Outcome:
    value = metrics[job.benchmark.metric]
    return Outcome(last=value, best=value, epochs=0, metrics=metrics)


def _labelled(split: Split) -> tuple[Tensor, Tensor]:
    """Unit features and the single label of each image, on the device."""
    feature, target = split
    return F.normalize(feature.to(get_device())), target.argmax(dim=1).to(get_device())


def _unit_splits(job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (unit_features(feature.numpy()), target.numpy())
        for feature, target in splits_of(job, 'train', 'test')
    ]
