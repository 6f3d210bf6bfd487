from collections.abc import Mapping, Sequence

from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR
from mmengine.structures import BaseDataElement

from ...options import checked


# In MMEngine's own registry: the config that names it runs in the scope of MMClassification.
@EVALUATOR.register_module()
@checked
class MultiHeadEvaluator(Evaluator):
    """Metrics for each head of MMSelfSup's ``MultiClsHead``.

    The multi-head linear config of MMSelfSup 1.0.0 names an evaluator that the release does not
    contain; this one makes it run.

    Args:
        metrics (Mapping[str, dict]): Config of the metric of each head, named as in the
            predictions: ``head1`` evaluates ``head1_pred_label``. The names of its metrics begin
            with it: ``head1/accuracy/top1``.
    """

    def __init__(self, metrics: Mapping[str, dict]) -> None:
        super().__init__(list(metrics.values()))
        self.heads = list(metrics)
        for head, metric in zip(self.heads, self.metrics, strict=True):
            metric.prefix = f'{head}/{metric.prefix}' if metric.prefix else head

    def process(
        self, data_samples: Sequence[BaseDataElement | dict], data_batch: object = None
    ) -> None:
        """Hand every metric the predictions of its head."""
        samples = [
            sample.to_dict() if isinstance(sample, BaseDataElement) else sample
            for sample in data_samples
        ]
        for head, metric in zip(self.heads, self.metrics, strict=True):
            own = [dict(sample, pred_label=sample[f'{head}_pred_label']) for sample in samples]
            metric.process(data_batch, own)
