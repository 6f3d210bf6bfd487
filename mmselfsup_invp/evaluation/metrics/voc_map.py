import numpy as np
import torch

from ...compat.host import METRICS, VOCAveragePrecision
from ...options import checked
from ..average_precision import Rule, mean_average_precision


@METRICS.register_module()
@checked
class VOCMeanAveragePrecision(VOCAveragePrecision):
    """Mean average precision of VOC's classes by a rule that MMClassification lacks.

    Args:
        rule (str): ``'11points'`` (VOC 2007 and InvP's transfer table) or ``'area'``; see
            :func:`~mmselfsup_invp.evaluation.average_precision`. Defaults to ``'11points'``.
        **kwargs: As for MMClassification's ``VOCAveragePrecision``; by default classes of which an
            image shows difficult objects alone do not count there.
    """

    def __init__(self, rule: Rule = '11points', **kwargs) -> None:
        super().__init__(**kwargs)
        self.rule = rule

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """``mAP`` in percent.

        Raises:
            ValueError: If a score is NaN or infinite: it would rank anywhere.
        """
        scores, targets = (
            torch.stack([result[key] for result in results]).cpu().numpy()
            for key in ('pred_score', 'gt_score')
        )
        if not np.isfinite(scores).all():
            raise ValueError(
                'Scores are NaN or infinite: the network diverged. Lower '
                'optim_wrapper.optimizer.lr.'
            )
        return dict(mAP=mean_average_precision(scores, targets.astype(int), self.rule))
