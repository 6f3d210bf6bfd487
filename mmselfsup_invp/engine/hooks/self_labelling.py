"""The steps of a labelling event of SeLa: choice of heads, log-probabilities, metrics."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ...evaluation import cluster_agreement
from ...models.algorithms import SeLa
from ...ops.clustering import cluster_health
from ...ops.search import default_elements
from ...ops.sinkhorn import LogProb, SinkhornInfo


def all_heads(epoch: int, num_heads: int) -> Iterable[int]:
    """Every head at every event (``main.py`` of the official code)."""
    return range(num_heads)


def next_head(epoch: int, num_heads: int) -> Iterable[int]:
    """One head, chosen by the epoch (``cifar.py`` of the official code)."""
    return [epoch % num_heads]


HEADS = {'all': all_heads, 'rotate': next_head}


def stored_log_prob(model: SeLa, feature: Tensor, head: int) -> LogProb:
    """Log-probabilities of all images, ``(N, K)``, computed once."""
    blocks = streamed_log_prob(model, feature, head)
    result = feature.new_empty((len(feature), model.head.num_classes), dtype=torch.float32)
    start = 0
    for block in blocks():
        result[start : start + len(block)] = block
        start += len(block)
    return result


def streamed_log_prob(model: SeLa, feature: Tensor, head: int) -> LogProb:
    """Log-probabilities of all images, computed block by block each time they are read."""
    device = next(model.parameters()).device
    rows = max(default_elements(device) // model.head.num_classes, 1)

    def blocks() -> Iterator[Tensor]:
        return (model.head.log_prob(part.to(device), head) for part in feature.split(rows))

    return blocks


# What is stored during an event, and on which device the features are (None: the model's).
STORAGE: dict[str, tuple[Callable[[SeLa, Tensor, int], LogProb], str | None]] = {
    'log_prob': (stored_log_prob, None),
    'features': (streamed_log_prob, None),
    'host': (streamed_log_prob, 'cpu'),
}


def label_metrics(label: Tensor, before: Tensor, infos: Sequence[SinkhornInfo]) -> dict[str, float]:
    """Metrics of new labels ``(N, H)`` over several heads.

    ``change_ratio``; ``empty``, ``smallest``, ``largest`` and ``entropy`` of
    :func:`~mmselfsup_invp.ops.clustering.cluster_health` (extremes over the heads, means of the
    others); ``passes``, ``error`` (maximum over the heads) and ``cost`` of
    :class:`~mmselfsup_invp.ops.sinkhorn.SinkhornInfo`.
    """
    health = [cluster_health(info.sizes) for info in infos]
    reductions = dict(empty=_mean, smallest=min, largest=max, entropy=_mean)
    return dict(
        change_ratio=(label != before).float().mean().item(),
        **{name: reduce([one[name] for one in health]) for name, reduce in reductions.items()},
        passes=_mean([info.iterations for info in infos]),
        error=max(info.error for info in infos),
        cost=_mean([info.cost for info in infos]),
    )


def mean_agreement(label: Tensor, truth: Tensor) -> dict[str, float]:
    """Agreement of labels ``(N, H)`` with the true classes ``(N,)``, averaged over the heads."""
    heads = [cluster_agreement(column, truth, adjusted=False) for column in label.unbind(1)]
    return {name: _mean([one[name] for one in heads]) for name in heads[0]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
