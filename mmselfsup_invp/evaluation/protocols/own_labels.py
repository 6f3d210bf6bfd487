"""Benchmarks on a folder of classes: top-1 accuracy of classifiers on frozen features."""

import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ...datasets.subsets import draw_per_class
from ...options import Choice, PositiveInt, checked
from ..encoder import Encoder
from ..knn import knn_predict
from ..svm import LinearSVMs
from .class_folders import ClassFolders
from .job import Job, Outcome

RESAMPLES = 2000
CONFIDENCE = 95
# Features (N, D), float32, unit rows, and labels (N,), int64.
Labelled = tuple[np.ndarray, np.ndarray]


def knn(
    train: Labelled, feature: np.ndarray, seed: int, k: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """Weighted kNN (:func:`~mmselfsup_invp.evaluation.knn_predict`), with all images if fewer."""
    gallery, label = (torch.from_numpy(each).to(get_device()) for each in train)
    query = torch.from_numpy(feature).to(gallery)
    k = min(k, len(gallery))
    return knn_predict(query, gallery, label, int(label.max()) + 1, k, temperature).cpu().numpy()


def logistic(
    train: Labelled,
    feature: np.ndarray,
    seed: int,
    costs: Sequence[float] = (0.001, 0.01, 0.1, 1.0, 10.0),
    folds: int = 3,
) -> np.ndarray:
    """Logistic regression by L-BFGS, the linear evaluation of CLIP.

    As in `arXiv:2103.00020 <https://arxiv.org/abs/2103.00020>`_ (appendix A.3), but the cost is
    selected by cross-validation, and the features are standardised, so that the costs suit all
    networks.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
    folds = min(folds, np.bincount(train[1]).max())
    name = 'logisticregression__C'
    with warnings.catch_warnings():
        # About classes with fewer images than folds, and a thousand iterations.
        warnings.simplefilter('ignore')
        if folds < 2:
            return model.fit(*train).predict(feature)
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(model, {name: list(costs)}, scoring='accuracy', cv=splits)
        return search.fit(*train).predict(feature)


def svm(
    train: Labelled,
    feature: np.ndarray,
    seed: int,
    costs: Sequence[float] = (0.01, 0.1, 1.0, 10.0),
    jobs: int = -1,
) -> np.ndarray:
    """One SVM for each class (:class:`~mmselfsup_invp.evaluation.svm.LinearSVMs`)."""
    target = np.eye(int(train[1].max()) + 1, dtype=np.int64)[train[1]]
    svms = LinearSVMs(costs, jobs=jobs)
    return svms.decision_values((train[0], target), feature, seed).argmax(axis=1)


CLASSIFIERS: dict[str, Callable[..., np.ndarray]] = dict(knn=knn, logistic=logistic, svm=svm)


@checked
@dataclass(frozen=True)
class OwnLabels:
    """Top-1 accuracy on a folder of classes, in percent.

    The features are those of :class:`~mmselfsup_invp.evaluation.Encoder`. The test split is the
    folder ``test`` or ``val``, or a fifth of each class drawn by the seed. Reported beside it:

    - the accuracy of the same network with initial weights, and of the most frequent class;
    - the interval that contains 95 % of the accuracies of 2,000 bootstrap samples of the test
      images. It covers the choice of these images, not that of the pre-training.

    Attributes:
        classifier (str): ``'knn'``, ``'logistic'`` or ``'svm'``.
        settings (dict): Arguments of the classifier. Defaults to none.
        shots (Sequence[int]): Numbers of images of each class to learn from; the accuracy is the
            mean over them. Those that exceed the smallest class are left out. Defaults to (): all
            training images.
        samples (int): Draws for each number of shots. Defaults to 5.
        size (int, optional): Edge of the view in pixels. Defaults to None, the training size.
    """

    classifier: Annotated[str, Choice(CLASSIFIERS)]
    settings: dict[str, Any] = field(default_factory=dict)
    shots: Sequence[PositiveInt] = ()
    samples: PositiveInt = 5
    size: PositiveInt | None = None

    def __post_init__(self) -> None:
        # Raises TypeError for settings that the classifier does not have.
        inspect.signature(CLASSIFIERS[self.classifier]).bind(None, None, 0, **self.settings)

    @property
    def classify(self) -> Callable[[Labelled, np.ndarray, int], np.ndarray]:
        """The classifier: training data, features and seed to predicted labels."""
        return partial(CLASSIFIERS[self.classifier], **self.settings)

    def metrics(self) -> list[str]:
        return ['top1']

    def __call__(self, job: Job) -> Outcome:
        root = Path(job.config.class_folders.data_root)
        data = ClassFolders(root, job.seed)
        if data.ignored:
            message = f'Images in {root} that do not lie in a class folder are ignored: '
            print_log(f'{message}{data.ignored}.', logger='current', level=logging.WARNING)
        hits, metrics = self._hits(job, data, job.random_init)
        top1 = 100 * hits.mean()
        references = {'majority class': data.majority()}
        if not job.random_init:
            references['untrained'] = 100 * self._hits(job, data, True)[0].mean()
        return Outcome(
            last=float(top1),
            best=float(top1),
            epochs=0,
            metrics=dict(top1=float(top1), **metrics),
            interval=bootstrap_interval(hits, job.seed),
            references={name: float(value) for name, value in references.items()},
        )

    def _hits(
        self, job: Job, data: ClassFolders, random_init: bool
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Share of correct predictions of each test image, and the metrics of the shots."""
        encoder = Encoder(job.backbone, self.size, random_init=random_init, seed=job.seed)
        features = data.features(encoder, job.out / 'features')
        train = features[data.train], data.label[data.train]
        test, truth = features[data.test], data.label[data.test]
        if not self.shots:
            return (self.classify(train, test, job.seed) == truth).astype(float), {}
        fewest = np.bincount(train[1]).min()
        means, metrics = [], {}
        for shots in [each for each in self.shots if each <= fewest] or [fewest]:
            hits = []
            for sample in range(self.samples):
                seed = job.seed * self.samples + sample
                rows = draw_per_class(train[1], lambda n, shots=shots: shots, seed)
                few = train[0][rows], train[1][rows]
                hits.append(self.classify(few, test, seed) == truth)
            means.append(np.mean(hits, axis=0))
            metrics[f'shots/{shots:02d}'] = 100 * float(means[-1].mean())
        return np.mean(means, axis=0), metrics


def bootstrap_interval(hits: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron, 1979) of a mean: 95 % confidence, in percent.

    ``hits`` are the shares of correct predictions of each test image, float, ``(N,)``. There are
    2,000 resamples.
    """
    random = np.random.default_rng(seed)
    means = [hits[random.integers(len(hits), size=len(hits))].mean() for _ in range(RESAMPLES)]
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(100 * low), float(100 * high)
