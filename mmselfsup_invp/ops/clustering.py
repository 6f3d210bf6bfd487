"""Clusters of features: k-means, statistics of the labels, repair of small clusters.

Labels are int64 of shape ``(N,)``, one of ``0 .. C - 1`` for each row of the features ``(N, D)``;
centroids are float32 of shape ``(C, D)``. One core for all methods that cluster.
"""

import importlib.util
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .checks import require_choice, require_features, require_range
from .search import default_elements, similarities

METRICS = ('euclidean', 'dot')
BACKENDS = ('auto', 'faiss', 'torch')

# What ODC and InterCLR call a small cluster on ImageNet: 20 images where 128 are the average.
SMALL_SHARE = 20 / 128


@torch.no_grad()
def assign(
    feature: Tensor, centroids: Tensor, metric: str = 'euclidean', offset: Tensor | None = None
) -> Tensor:
    """Find the nearest centroid of each feature, block by block.

    Args:
        feature (Tensor): Float, shape ``(N, D)``.
        centroids (Tensor): Float, shape ``(C, D)``.
        metric (str): ``'euclidean'``, the smallest distance (InterCLR, `arXiv:2008.11702
            <https://arxiv.org/abs/2008.11702>`_, section 3.3), or ``'dot'``, the largest inner
            product with the centroids as they are (its code and that of ODC). They differ where
            the norms of the centroids do. Defaults to ``'euclidean'``.
        offset (Tensor, optional): float32, shape ``(C,)``, added to the scores of the clusters
            (see :func:`scores`), to favour those that would stay small. Defaults to None.

    Returns:
        Tensor: int64, shape ``(N,)``.

    Example:
        >>> centroids = torch.tensor([[0.9, 0.0], [0.5, 0.5]])
        >>> assign(torch.tensor([[0.8, 0.6]]), centroids)
        tensor([1])
        >>> assign(torch.tensor([[0.8, 0.6]]), centroids, metric='dot')
        tensor([0])
    """
    return _nearest(feature, centroids, metric, offset)[1]


@torch.no_grad()
def scores(feature: Tensor, centroids: Tensor, metric: str = 'euclidean') -> Iterator[Tensor]:
    """Give, block by block, how near each feature is to each centroid; higher is nearer.

    ``x.c`` for ``'dot'``, ``x.c - |c|^2 / 2`` for ``'euclidean'``: half the squared distance,
    negated, but for ``|x|^2``, which is the same for every cluster.

    Args:
        feature (Tensor): Float, shape ``(N, D)``.
        centroids (Tensor): Float, shape ``(C, D)``.
        metric (str): ``'euclidean'`` or ``'dot'``. Defaults to ``'euclidean'``.

    Yields:
        Tensor: float32, some rows of the matrix of shape ``(N, C)``.

    Example:
        >>> next(scores(torch.tensor([[1.0, 0.0]]), torch.eye(2)))
        tensor([[ 0.5000, -0.5000]])
    """
    require_choice('metric', metric, METRICS)
    require_features('centroids', centroids)
    require_features('feature', feature, centroids.size(1))
    constant = centroids.float().square().sum(dim=1) / 2 if metric == 'euclidean' else 0.0
    rows = max(default_elements(feature.device) // len(centroids), 1)
    for part in feature.split(rows):
        yield similarities(part, centroids).sub_(constant)


def _nearest(
    feature: Tensor, centroids: Tensor, metric: str, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Score and index of the best centroid of each feature, both ``(N,)``."""
    best = [
        (block if offset is None else block.add_(offset)).max(dim=1)
        for block in scores(feature, centroids, metric)
    ]
    score, index = zip(*best, strict=True)
    return torch.cat(score), torch.cat(index)


def cluster_sizes(label: Tensor, num_clusters: int) -> Tensor:
    """Count the members of each cluster, without waiting for the device.

    Args:
        label (Tensor): int64, shape ``(N,)``, the cluster of each row, 0 to C - 1.
        num_clusters (int): C.

    Returns:
        Tensor: int64, shape ``(C,)``.

    Example:
        >>> cluster_sizes(torch.tensor([0, 2, 0]), 3)
        tensor([2, 0, 1])
    """
    return label.new_zeros(num_clusters).index_add_(0, label, torch.ones_like(label))


@torch.no_grad()
def cluster_means(feature: Tensor, label: Tensor, centroids: Tensor) -> Tensor:
    """Mean feature of each cluster, not normalised; an empty cluster keeps its old centroid.

    Args:
        feature (Tensor): Float, shape ``(N, D)``.
        label (Tensor): int64, shape ``(N,)``.
        centroids (Tensor): float32, shape ``(C, D)``, the old ones.

    Returns:
        Tensor: float32, shape ``(C, D)``.

    Example:
        >>> feature, label = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0])
        >>> cluster_means(feature, label, centroids=torch.zeros(2, 1))
        tensor([[2.],
                [0.]])
    """
    size = cluster_sizes(label, len(centroids))[:, None]
    total = torch.zeros_like(centroids)
    # Features of another type are widened a part at a time.
    widened = max(default_elements(feature.device) // feature.size(1), 1)
    rows = len(feature) if feature.dtype == centroids.dtype else widened
    for index, part in zip(label.split(rows), feature.split(rows), strict=True):
        total.index_add_(0, index, part.to(centroids))
    return torch.where(size > 0, total / size.clamp(min=1), centroids)


def cluster_health(size: Tensor) -> dict[str, float]:
    """State of the clusters in four figures, for the log.

    Args:
        size (Tensor): int64, shape ``(C,)``, from :func:`cluster_sizes`.

    Returns:
        dict[str, float]: ``empty`` clusters, the ``smallest`` and ``largest`` size, and
        ``entropy`` of the sizes divided by log C: 1 where all are equal, 0 where one holds all.

    Example:
        >>> cluster_health(torch.tensor([2, 2, 0, 0]))
        {'empty': 2.0, 'smallest': 0.0, 'largest': 2.0, 'entropy': 0.5}
    """
    share = size.double() / size.sum()
    entropy = torch.special.entr(share).sum().item()
    return dict(
        empty=float((size == 0).sum()),
        smallest=float(size.min()),
        largest=float(size.max()),
        entropy=entropy / math.log(len(size)) if len(size) > 1 else 1.0,
    )


@torch.no_grad()
def kmeans(
    feature: Tensor,
    num_clusters: int,
    *,
    iterations: int = 20,
    seed: int = 0,
    backend: str = 'auto',
) -> tuple[Tensor, Tensor]:
    """Cluster all features by Lloyd's algorithm; no cluster of the result is empty.

    It starts from random distinct features. A cluster that runs empty on the way continues from
    one half of the largest; one that is empty at the end takes the feature farthest from its own
    centroid.

    Args:
        feature (Tensor): Float, shape ``(N, D)``.
        num_clusters (int): C, 1 to N.
        iterations (int): Rounds of assignment and averaging. Defaults to 20.
        seed (int): Of the start. Defaults to 0.
        backend (str): ``'faiss'``, ``'torch'`` (on the device of the features), or ``'auto'``:
            faiss if it is installed and can run where the features are. Defaults to ``'auto'``.

    Returns:
        tuple[Tensor, Tensor]: Labels, int64, ``(N,)``; centroids, float32, ``(C, D)``: the means
        of the clusters.

    Raises:
        ValueError: If there are fewer features than clusters, features are not finite, or the
            backend is unknown.

    Example:
        >>> label, centroids = kmeans(torch.tensor([[0.0], [0.1], [5.0]]), 2)
        >>> bool(label[0] == label[1] != label[2])
        True
    """
    require_features('feature', feature)
    require_choice('backend', backend, BACKENDS)
    why = f'{len(feature)} features cannot fill more clusters'
    require_range('num_clusters', num_clusters, 1, len(feature), why)
    feature = feature.float()
    if not feature.isfinite().all():
        raise ValueError('The features to cluster hold NaN or Inf; the network has diverged.')
    if backend == 'auto':
        backend = 'faiss' if _faiss_fits(feature) else 'torch'
    run = _kmeans_faiss if backend == 'faiss' else _kmeans_torch
    centroids = run(feature, num_clusters, iterations, seed)
    score, label = _nearest(feature, centroids, 'euclidean')
    _fill_empty(label, feature.square().sum(dim=1) / 2 - score, num_clusters)
    return label, cluster_means(feature, label, centroids)


def _faiss_fits(feature: Tensor) -> bool:
    if importlib.util.find_spec('faiss') is None:
        return False
    import faiss

    return feature.device.type == 'cpu' or faiss.get_num_gpus() > 0


def _kmeans_faiss(feature: Tensor, num_clusters: int, iterations: int, seed: int) -> Tensor:
    import faiss

    search = faiss.Kmeans(
        feature.size(1),
        num_clusters,
        niter=iterations,
        seed=seed,
        gpu=feature.device.type != 'cpu',
        # Neither sample the features nor complain that there are few of them.
        max_points_per_centroid=len(feature),
        min_points_per_centroid=1,
    )
    search.train(feature.cpu().numpy())
    return torch.from_numpy(search.centroids).to(feature)


def _kmeans_torch(feature: Tensor, num_clusters: int, iterations: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(feature), generator=generator)[:num_clusters]
    centroids = feature[start.to(feature.device)].clone()
    for _ in range(iterations):
        label = assign(feature, centroids)
        centroids = cluster_means(feature, label, centroids)
        _split_largest(centroids, cluster_sizes(label, num_clusters))
    return centroids


def _split_largest(centroids: Tensor, size: Tensor) -> None:
    """Put each empty cluster beside one of the largest, a hair to either side of it."""
    empty = (size == 0).nonzero().squeeze(1)
    largest = size.topk(len(empty)).indices
    centroids[empty] = centroids[largest] * (1 + 1 / 1024)
    centroids[largest] *= 1 - 1 / 1024


def _fill_empty(label: Tensor, distance: Tensor, num_clusters: int) -> None:
    """Give each empty cluster the farthest feature of those that are not alone, in place."""
    size = cluster_sizes(label, num_clusters)
    for cluster in (size == 0).nonzero().squeeze(1):
        row = distance.masked_fill(size[label] < 2, -torch.inf).argmax()
        size[label[row]] -= 1
        size[cluster] += 1
        label[row] = cluster


def small_size(num_features: int, num_clusters: int) -> int:
    """Members below which a cluster is small: 20 on ImageNet with 10,000 clusters, scaled.

    Args:
        num_features (int): N.
        num_clusters (int): C.

    Returns:
        int: At least 1.

    Example:
        >>> small_size(1_281_167, 10_000), small_size(1_000, 50)
        (20, 3)
    """
    return max(round(SMALL_SHARE * num_features / num_clusters), 1)


@torch.no_grad()
def repair_small(
    feature: Tensor, label: Tensor, centroids: Tensor, min_size: int, seed: int = 0
) -> Tensor:
    """Dissolve small clusters and refill them from the largest, in place: the rule of ODC.

    `Online Deep Clustering <https://arxiv.org/abs/2006.10645>`_, section 3.2. Members of a small
    cluster move to the large one whose centroid has the highest inner product with them. Then
    each small cluster takes one half of the currently largest, split by 2-means (evenly where all
    its features are equal). Only the centroids of these halves are renewed.

    Args:
        feature (Tensor): Float, shape ``(N, D)``, N at least C.
        label (Tensor): int64, shape ``(N,)``, changed in place.
        centroids (Tensor): float32, shape ``(C, D)``, changed in place.
        min_size (int): Clusters with fewer members are small.
        seed (int): Of the 2-means. Defaults to 0.

    Returns:
        Tensor: int64, shape ``(S,)``: the clusters that were small.

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
        members = (label == largest).nonzero().squeeze(1)
        half, means = _halve(feature[members], seed)
        label[members[half]] = cluster
        for side, mean in zip((largest, cluster), means, strict=True):
            centroids[side] = mean
            size[side] = (label == side).sum()
    return small


def _halve(feature: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Split features in two: which go to the second part, bool, and the mean of each part."""
    side, means = kmeans(feature, 2, seed=seed, backend='torch')
    if torch.allclose(*means):
        side = torch.arange(len(feature), device=feature.device) % 2
    return side == 1, means
