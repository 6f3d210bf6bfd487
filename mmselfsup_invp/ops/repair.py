"""Repair of small clusters: the rule of ODC."""

import torch
from torch import Tensor

from .clustering import assign, cluster_means, cluster_sizes
from .search import BankRows

# The 2-means of a split: k-means++ starts, of which the best result is kept, and rounds of each.
SPLIT_STARTS = 20
SPLIT_ITERATIONS = 20


@torch.no_grad()
def repair_small(
    feature: Tensor | BankRows, label: Tensor, centroids: Tensor, min_size: int, seed: int = 0
) -> Tensor:
    """Dissolve small clusters and refill them from the largest ones, in place: the rule of ODC.

    `Online Deep Clustering <https://arxiv.org/abs/2006.10645>`_, section 3.2. The members of a
    small cluster move to the large cluster whose centroid has the highest inner product with
    them. Then each small cluster takes one part of the largest cluster at that time, which is
    split by 2-means (evenly if all its features are equal). Only the centroids of these parts
    are updated.

    Args:
        feature (Tensor | BankRows): Float, shape ``(N, D)``, N at least C.
        label (Tensor): int64, shape ``(N,)``, changed in place.
        centroids (Tensor): float32, shape ``(C, D)``, changed in place.
        min_size (int): Clusters with fewer members are small.
        seed (int): Seed of the 2-means. Defaults to 0.

    Returns:
        Tensor: int64, shape ``(S,)``, the clusters that were small, ascending.

    Raises:
        ValueError: If all clusters are small.

    Example:
        >>> feature = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> label, centroids = torch.zeros(4, dtype=torch.int64), torch.zeros(2, 2)
        >>> repair_small(feature, label, centroids, min_size=1)
        tensor([1])
        >>> bool(label[0] == label[1] != label[2] == label[3])
        True
    """
    size = cluster_sizes(label, len(centroids))
    is_small = size < min_size
    small = is_small.nonzero().squeeze(1)
    if not len(small):
        return small
    large = (~is_small).nonzero().squeeze(1)
    if not len(large):
        raise ValueError(
            f'All {len(centroids)} clusters have fewer than {min_size} members. Lower min_size or '
            f'num_clusters: {len(feature)} features give {len(feature) / len(centroids):.3g} each.'
        )
    moving = is_small[label].nonzero().squeeze(1)
    label[moving] = large[assign(feature[moving], centroids[large], 'dot')]
    size = cluster_sizes(label, len(centroids))
    for cluster in small:
        largest = size.argmax()
        _split(feature, label, centroids, torch.stack([largest, cluster]), seed)
        size[largest] = (label == largest).sum()
        size[cluster] = (label == cluster).sum()
    return small


def _split(
    feature: Tensor | BankRows, label: Tensor, centroids: Tensor, pair: Tensor, seed: int
) -> None:
    """Divide the members of cluster ``pair[0]`` between both clusters of ``pair``, in place."""
    members = (label == pair[0]).nonzero().squeeze(1)
    part = two_means(feature[members], seed).long()
    label[members] = pair[part]
    centroids[pair] = cluster_means(feature[members], part, centroids[pair])


def two_means(feature: Tensor, seed: int = 0) -> Tensor:
    """Divide features ``(n, D)``, n at least 2, into two parts by k-means with k = 2.

    The best of 20 k-means++ starts, which run at the same time: one matrix product per round.
    Returns bool, ``(n,)``, the features of the second part. Equal features are divided evenly.
    """
    # With the mean at 0 the sums of both parts differ by their sign only.
    centred = feature.float() - feature.float().mean(dim=0)
    first, second = _plus_plus_starts(centred, seed)
    middle = (second.square().sum(dim=1) - first.square().sum(dim=1)) / 2
    side = centred @ (second - first).T > middle
    for _ in range(SPLIT_ITERATIONS):
        count, total = _count_and_sum(side, centred)
        # Of the means total / count and -total / (n - count) the nearer one.
        middle = total.square().sum(dim=1) * (1 / count - 1 / (len(side) - count)) / 2
        side = centred @ total.T > middle
    count, total = _count_and_sum(side, centred)
    # The inertia is that of one cluster less this, up to a constant factor.
    gain = total.square().sum(dim=1) / (count * (len(side) - count))
    side = side[:, gain.argmax()]
    if not 0 < side.sum() < len(side):
        return torch.arange(len(side), device=side.device) % 2 == 1
    return side


def _count_and_sum(side: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
    """Size ``(R,)`` and sum ``(R, D)`` of the second part of each of R divisions ``(n, R)``."""
    return side.sum(dim=0), side.T.float() @ feature


def _plus_plus_starts(feature: Tensor, seed: int, num: int = SPLIT_STARTS) -> tuple[Tensor, Tensor]:
    """Pairs of features, ``(num, D)`` each: a uniform one and one by squared distance from it."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(2, num, generator=generator, dtype=torch.float64).to(feature.device)
    first = feature[(draw[0] * len(feature)).long()]
    squared = feature.square().sum(dim=1)[:, None] + first.square().sum(dim=1)
    distance = (squared - 2 * feature @ first.T).clamp(min=0).double().cumsum(dim=0)
    second = torch.searchsorted(distance.T.contiguous(), (draw[1] * distance[-1])[:, None])
    return first, feature[second.squeeze(1)]
