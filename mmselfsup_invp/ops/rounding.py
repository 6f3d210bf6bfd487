"""Rounding of a transport plan to one label per image, for :mod:`.sinkhorn`.

The plan is given by the log-probabilities ``(N, K)``, in blocks of rows, and the logarithm of the
class scales: its rows are proportional to ``exp(lambd * log_prob + log_class)``.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from .clustering import cluster_sizes

Source = Callable[[], Iterable[Tensor]]


def scaled_blocks(source: Source, lambd: float, log_class: Tensor) -> Iterator[Tensor]:
    """Yield the blocks of ``lambd * log_prob + log_class``."""
    for block in source():
        yield torch.add(log_class.to(block.dtype), block, alpha=lambd)


def round_argmax(source: Source, lambd: float, log_class: Tensor) -> Tensor:
    """Take the largest entry of each row of the plan, int64, ``(N,)``; the first of equal ones."""
    return torch.cat([logits.argmax(dim=1) for logits in scaled_blocks(source, lambd, log_class)])


def round_balanced(source: Source, lambd: float, log_class: Tensor) -> Tensor:
    """Assign labels, int64, ``(N,)``, with class sizes of floor(N / K) and ceil(N / K).

    The N mod K classes with most images by :func:`round_argmax` have the capacity ceil(N / K), the
    others floor(N / K). In each round, every image without a label prefers the class with the
    largest entry of its row among those with free capacity. A class that more images prefer than it
    has capacity takes the images that would lose most by their second choice (of equal ones, the
    first). If the plan has converged, few images need a second round; if all rows are equal, there
    are K rounds.

    The assignment is not always the cheapest. On random problems with N a multiple of K its cost is
    at most a few percent above the optimum. Otherwise, with few images per class, the choice of the
    larger classes can cost more.
    """
    label = round_argmax(source, lambd, log_class)
    capacity = _capacities(label, len(log_class))
    label.fill_(-1)
    while (label < 0).any():
        image = (label < 0).nonzero().squeeze(1)
        free = log_class.masked_fill(capacity == 0, -torch.inf)
        preferred, loss = _preferences(source, lambd, free, image)
        taken = _accepted(preferred, loss, capacity)
        label[image[taken]] = preferred[taken]
        capacity -= cluster_sizes(preferred[taken], len(capacity))
    return label


def _capacities(label: Tensor, num_classes: int) -> Tensor:
    """How many images each class takes, int64, ``(K,)``."""
    size = cluster_sizes(label, num_classes)
    capacity = torch.full_like(size, len(label) // num_classes)
    capacity[size.argsort(descending=True, stable=True)[: len(label) % num_classes]] += 1
    return capacity


def _preferences(
    source: Source, lambd: float, log_class: Tensor, image: Tensor
) -> tuple[Tensor, Tensor]:
    """The best class of each image and its margin to the second best one, both ``(M,)``."""
    start, found = 0, []
    for block in source():
        inside = image[(image >= start) & (image < start + len(block))] - start
        start += len(block)
        logits = torch.add(log_class.to(block.dtype), block[inside], alpha=lambd)
        best, preferred = logits.max(dim=1)
        second = logits.scatter_(1, preferred[:, None], -torch.inf).amax(dim=1)
        found.append((preferred, best - second))
    preferred, loss = (torch.cat(part) for part in zip(*found, strict=True))
    return preferred, loss


def _accepted(preferred: Tensor, loss: Tensor, capacity: Tensor) -> Tensor:
    """Which images get the preferred class, bool, ``(M,)``: those with the largest loss."""
    order = loss.argsort(descending=True, stable=True)
    order = order[preferred[order].argsort(stable=True)]
    count = cluster_sizes(preferred, len(capacity))
    first = count.cumsum(0) - count
    rank = torch.arange(len(order), device=order.device) - first[preferred[order]]
    accepted = torch.empty_like(preferred, dtype=torch.bool)
    accepted[order] = rank < capacity[preferred[order]]
    return accepted
