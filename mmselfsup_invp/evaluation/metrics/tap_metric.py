from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmselfsup.registry import METRICS

from ...datasets.info import label_vector
from ...ops.checks import require_choice
from ..average_precision import mean_average_precision

SCORES = ('top1', 'map')


@METRICS.register_module()
class TapMetric(BaseMetric):
    """How well each tap of a ``TapProbe`` classifies, and the best of them.

    Gives ``NUMBER_NAME`` for each tap, numbered from 1 as in the paper of InvP, and ``best``, all
    in percent, and ``best_tap``, its number.

    Args:
        taps (Sequence[str], optional): Names of the taps. Defaults to None: numbers alone.
        score (str): ``'top1'``: accuracy; ``'map'``: mean average precision of many labels, the
            area under the envelope. Defaults to ``'top1'``.
        collect_device, prefix: See MMEngine's ``BaseMetric``.
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
        predicted = sample['tap_scores'].argmax(dim=1).cpu()
        return (predicted == sample['gt_label']['label'].cpu()).numpy()

    @staticmethod
    def _scores(sample: dict) -> tuple[np.ndarray, np.ndarray]:
        scores = sample['tap_scores'].float().cpu()
        label = sample['gt_label']['label'].cpu()
        target = label_vector(label, sample.get('gt_label_difficult'), scores.size(1))
        return scores.numpy(), target.numpy()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Each tap's score and the best."""
        values = {'top1': _accuracies, 'map': _mean_average_precisions}[self.score](results)
        best = int(np.argmax(values))
        names = [f'{number:02d}' for number in range(1, len(values) + 1)]
        if self.taps is not None:
            names = [f'{number}_{tap}' for number, tap in zip(names, self.taps, strict=True)]
        found = dict(zip(names, map(float, values), strict=True))
        return {**found, 'best': float(values[best]), 'best_tap': best + 1}


def _accuracies(results: list[np.ndarray]) -> np.ndarray:
    return np.mean(results, axis=0) * 100


def _mean_average_precisions(results: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    scores, targets = (np.stack(part) for part in zip(*results, strict=True))
    return np.array(
        [mean_average_precision(scores[:, tap], targets) for tap in range(scores.shape[1])]
    )
