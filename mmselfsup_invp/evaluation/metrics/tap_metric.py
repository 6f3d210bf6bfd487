from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmselfsup.registry import METRICS

from ...datasets.info import label_vector
from ...ops.checks import require_choice
from ..average_precision import mean_average_precision

SCORES = ('top1', 'map')


@METRICS.register_module()
class TapMetric(BaseMetric):
    """How well each tap of a ``TapProbe`` classifies, and the best of them.

    Gives ``NUMBER_NAME`` for each tap, numbered from 1 as in the paper of InvP, and ``best``, all
    in percent, and ``best_tap``, its number. A classifier that diverged, so that any of its scores
    is NaN or infinite, gets NaN and a warning.

    Args:
        taps (Sequence[str], optional): Names of the taps. Defaults to None: numbers alone.
        score (str): ``'top1'``: accuracy; ``'map'``: mean average precision of many labels, the
            area under the envelope. Defaults to ``'top1'``.
        collect_device, prefix: See MMEngine's ``BaseMetric``.

    Raises:
        ValueError: If ``score`` is unknown, or the classifiers of all taps diverged.
    """

    default_prefix = 'taps'

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        score: str = 'top1',
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        require_choice('score', score, SCORES)
        self.taps = taps
        self.score = score

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what the score needs of a batch."""
        keep = {'top1': self._hits, 'map': self._scores}[self.score]
        self.results.extend(keep(sample) for sample in data_samples)

    @staticmethod
    def _hits(sample: dict) -> np.ndarray:
        scores = sample['tap_scores'].float().cpu()
        hits = (scores.argmax(dim=1) == sample['gt_label']['label'].cpu()).float()
        return hits.where(scores.isfinite().all(dim=1), torch.nan).numpy()

    @staticmethod
    def _scores(sample: dict) -> tuple[np.ndarray, np.ndarray]:
        scores = sample['tap_scores'].float().cpu()
        label = sample['gt_label']['label'].cpu()
        target = label_vector(label, sample.get('gt_label_difficult'), scores.size(1))
        return scores.numpy(), target.numpy()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Each tap's score and the best."""
        values = {'top1': _accuracies, 'map': _mean_average_precisions}[self.score](results)
        _report_divergence(np.isnan(values))
        best = int(np.nanargmax(values))
        names = [f'{number:02d}' for number in range(1, len(values) + 1)]
        if self.taps is not None:
            names = [f'{number}_{tap}' for number, tap in zip(names, self.taps, strict=True)]
        found = dict(zip(names, map(float, values), strict=True))
        return {**found, 'best': float(values[best]), 'best_tap': best + 1}


def _accuracies(results: list[np.ndarray]) -> np.ndarray:
    return np.mean(results, axis=0) * 100


def _mean_average_precisions(results: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    scores, targets = (np.stack(part) for part in zip(*results, strict=True))
    return np.array([_mean_average_precision(own, targets) for own in scores.swapaxes(0, 1)])


def _mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    return mean_average_precision(scores, targets) if np.isfinite(scores).all() else np.nan


def _report_divergence(diverged: np.ndarray) -> None:
    advice = 'Lower optim_wrapper.optimizer.lr, or try another model.norm'
    if diverged.all():
        raise ValueError(f'The classifiers of all taps diverged to NaN or infinity. {advice}.')
    if diverged.any():
        taps = ', '.join(str(tap + 1) for tap in np.flatnonzero(diverged))
        MMLogger.get_current_instance().warning(
            f'The classifiers of the taps {taps} diverged and do not count. {advice}.'
        )
