from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from ...compat.host import METRICS
from ...datasets.info import label_vector
from ...options import checked
from ...structures import label_tensor
from ..average_precision import mean_average_precision

ADVICE = 'Lower optim_wrapper.optimizer.lr, or try another model.norm'


@METRICS.register_module()
@checked
class LayerwiseMetric(BaseMetric):
    """Score of each layer of a ``LayerwiseProbe``, and of the best layer, in percent.

    The metrics are ``NUMBER_NAME`` for each layer, numbered from 1 as in the paper of InvP,
    ``best``, and ``best_layer``, its number. A layer with NaN or infinite scores has diverged: its
    metric is NaN, it cannot be the best, and a warning is logged.

    Args:
        layers (Sequence[str], optional): Names of the layers. Defaults to None: numbers alone.
        score (str): ``'top1'``: accuracy; ``'map'``: mean average precision for multi-label images,
            the area under the envelope. Defaults to ``'top1'``.
        collect_device, prefix: See MMEngine's ``BaseMetric``.

    Raises:
        ValueError: If ``score`` is unknown, or the classifiers of all layers diverged.
    """

    default_prefix = 'layers'

    def __init__(
        self,
        layers: Sequence[str] | None = None,
        score: Literal['top1', 'map'] = 'top1',
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.layers = layers
        self.collect, self.reduce = SCORES[score]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what the score needs of each sample's ``layer_scores``, ``(L, C)``."""
        for sample in data_samples:
            self.results.append(self.collect(sample, sample['layer_scores'].float().cpu()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The metrics from all that :meth:`process` kept."""
        values = self.reduce(results)
        _report_divergence(np.isnan(values))
        best = int(np.nanargmax(values))
        names = [f'{number:02d}' for number in range(1, len(values) + 1)]
        if self.layers is not None:
            names = [f'{number}_{name}' for number, name in zip(names, self.layers, strict=True)]
        metrics = dict(zip(names, map(float, values), strict=True))
        return {**metrics, 'best': float(values[best]), 'best_layer': best + 1}


def _hits(sample: dict, scores: Tensor) -> np.ndarray:
    """1 where a layer is right, 0 where it is wrong, NaN where it diverged; ``(L,)``."""
    hits = (scores.argmax(dim=1) == label_tensor(sample['gt_label']).cpu()).float()
    return hits.where(scores.isfinite().all(dim=1), torch.nan).numpy()


def _accuracies(results: list[np.ndarray]) -> np.ndarray:
    return np.mean(results, axis=0) * 100


def _scores_and_target(sample: dict, scores: Tensor) -> tuple[np.ndarray, np.ndarray]:
    label = label_tensor(sample['gt_label']).cpu()
    target = label_vector(label, sample.get('gt_label_difficult'), scores.size(1))
    return scores.numpy(), target.numpy()


def _mean_average_precisions(results: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    scores, targets = (np.stack(part) for part in zip(*results, strict=True))
    return np.array(
        [
            mean_average_precision(layer, targets) if np.isfinite(layer).all() else np.nan
            for layer in scores.swapaxes(0, 1)
        ]
    )


SCORES = {'top1': (_hits, _accuracies), 'map': (_scores_and_target, _mean_average_precisions)}


def _report_divergence(diverged: np.ndarray) -> None:
    if diverged.all():
        raise ValueError(f'The classifiers of all layers diverged to NaN or infinity. {ADVICE}.')
    if diverged.any():
        layers = ', '.join(str(layer + 1) for layer in np.flatnonzero(diverged))
        MMLogger.get_current_instance().warning(
            f'The classifiers of the layers {layers} diverged and do not count. {ADVICE}.'
        )
