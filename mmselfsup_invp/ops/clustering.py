"""Clusters of features: assignment, statistics and k-means.

Labels are int64 of shape ``(N,)``, with values 0 to C - 1, for features of shape ``(N, D)``;
centroids are float32 of shape ``(C, D)``.
"""

import importlib.util
import math
import warnings
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ..options import check_option
from .checks import require_features, require_range
from .search import BankRows, default_elements, similarities

Metric = Literal['euclidean', 'dot']
Backend = Literal['auto', 'sklearn', 'torch']

# Size of a small cluster of ODC and InterCLR on ImageNet, as a share of the mean size.
SMALL_SHARE = 20 / 128
# Relative distance at which the two halves of a cluster are placed.
SPLIT_OFFSET = 1 / 1024


@torch.no_grad()
def assign(
    feature: Tensor, centroids: Tensor, metric: str = 'euclidean', offset: Tensor | None = None
) -> Tensor:
    """Find the nearest centroid of each feature, block by block.

    Args:
        feature (Tensor): Float, shape ``(N, D)``.
        centroids (Tensor): Float, shape ``(C, D)``.
        metric (str): ``'euclidean'``, the smallest distance (`InterCLR
            <https://arxiv.org/abs/2008.11702>`_), or ``'dot'``, the largest inner product with
            the centroids, not normalised (the code of InterCLR and ODC). They differ if the
            norms of the centroids do. Defaults to ``'euclidean'``.
        offset (Tensor, optional): float32, shape ``(C,)``, added to the scores of the clusters
            (see :func:`scores`). Defaults to None.

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
    """Score of each feature ``(N, D)`` with each centroid ``(C, D)``; higher is nearer.

    ``x.c`` for ``'dot'`` and ``x.c - |c|^2 / 2`` for ``'euclidean'``. The latter is half the
    negative squared distance, up to ``|x|^2 / 2``, which is the same for every cluster. Yields the
    matrix ``(N, C)`` in blocks of rows, float32.
    """
    check_option('scores', 'metric', metric, Metric)
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
    """Count the members of each cluster, without a device synchronisation.

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
def cluster_means(feature: Tensor | BankRows, label: Tensor, centroids: Tensor) -> Tensor:
    """Average the features of each cluster, not normalised.

    An empty cluster keeps its old centroid.

    Args:
        feature (Tensor | BankRows): Float, shape ``(N, D)``.
        label (Tensor): int64, shape ``(N,)``.
        centroids (Tensor): float32, shape ``(C, D)``, the old centroids.

    Returns:
        Tensor: float32, shape ``(C, D)``.

    Example:
        >>> feature, label = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0])
        >>> cluster_means(feature, label, centroids=torch.zeros(2, 1))
        tensor([[2.],
                [0.]])
    """
    size = cluster_sizes(label, len(centroids))[:, None]
    total = class_sums(feature, label, len(centroids))
    return torch.where(size > 0, total / size.clamp(min=1), centroids)


def class_sums(feature: Tensor | BankRows, label: Tensor, num_classes: int) -> Tensor:
    """Sum the features of each class, float32, ``(num_classes, D)``; see :func:`cluster_means`."""
    if isinstance(feature, BankRows):
        return feature.class_sums(label, num_classes)
    total = torch.zeros(num_classes, feature.size(1), device=feature.device)
    # Half precision features are upcast block by block.
    rows = len(feature)
    if feature.dtype != total.dtype:
        rows = max(default_elements(feature.device) // feature.size(1), 1)
    for index, part in zip(label.split(rows), feature.split(rows), strict=True):
        total.index_add_(0, index, part.to(total))
    return total


def cluster_health(size: Tensor) -> dict[str, float]:
    """Summarise the cluster sizes, int64, ``(C,)``, in four metrics for the log.

    The number of ``empty`` clusters, the ``smallest`` and ``largest`` size, and the ``entropy`` of
    the sizes divided by log C: 1 if all are equal, 0 if one has all members.
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
    """Cluster features by Lloyd's algorithm; no cluster of the result is empty.

    The algorithm starts from random distinct features and stops early if no label changes. A
    cluster that is empty at the end takes the feature farthest from its own centroid.

    Args:
        feature (Tensor): Float, shape ``(N, D)``.
        num_clusters (int): C, 1 to N.
        iterations (int): Rounds of assignment and averaging at most. Defaults to 20.
        seed (int): Seed of the start. Defaults to 0.
        backend (str): ``'sklearn'`` (scikit-learn, on the CPU), ``'torch'`` (on the device of the
            features), or ``'auto'``: scikit-learn for features on the CPU if it is installed,
            because it needs less than half of the time there. Defaults to ``'auto'``.

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
    check_option('kmeans', 'backend', backend, Backend)
    why = f'{len(feature)} features cannot fill more clusters'
    require_range('num_clusters', num_clusters, 1, len(feature), why)
    feature = feature.float()
    if not feature.isfinite().all():
        raise ValueError('The features to cluster contain NaN or Inf; the network has diverged.')
    if backend == 'auto':
        installed = importlib.util.find_spec('sklearn') is not None
        backend = 'sklearn' if installed and feature.device.type == 'cpu' else 'torch'
    run = _kmeans_sklearn if backend == 'sklearn' else _kmeans_torch
    centroids = run(feature, num_clusters, iterations, seed)
    score, label = _nearest(feature, centroids, 'euclidean')
    _fill_empty(label, feature.square().sum(dim=1) / 2 - score, num_clusters)
    return label, cluster_means(feature, label, centroids)


def _kmeans_sklearn(feature: Tensor, num_clusters: int, iterations: int, seed: int) -> Tensor:
    """Centroids by scikit-learn, float32, ``(C, D)``."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    search = KMeans(
        num_clusters, init='random', n_init=1, max_iter=iterations, tol=0, random_state=seed
    )
    with warnings.catch_warnings():
        # About fewer distinct features than clusters; empty clusters are filled afterwards.
        warnings.simplefilter('ignore', ConvergenceWarning)
        search.fit(feature.cpu().numpy())
    return torch.from_numpy(search.cluster_centers_).to(feature)


def _kmeans_torch(feature: Tensor, num_clusters: int, iterations: int, seed: int) -> Tensor:
    """Centroids by PyTorch, float32, ``(C, D)``; an empty cluster takes half of the largest."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(feature), generator=generator)[:num_clusters]
    centroids = feature[start.to(feature.device)].clone()
    previous = None
    for _ in range(iterations):
        label = assign(feature, centroids)
        if previous is not None and torch.equal(label, previous):
            break
        centroids = cluster_means(feature, label, centroids)
        _split_largest(centroids, cluster_sizes(label, num_clusters))
        previous = label
    return centroids


def _split_largest(centroids: Tensor, size: Tensor) -> None:
    """Move each empty cluster next to one of the largest, in place."""
    empty = (size == 0).nonzero().squeeze(1)
    largest = size.topk(len(empty)).indices
    centroids[empty] = centroids[largest] * (1 + SPLIT_OFFSET)
    centroids[largest] *= 1 - SPLIT_OFFSET


def _fill_empty(label: Tensor, distance: Tensor, num_clusters: int) -> None:
    """Move the feature farthest from its centroid to each empty cluster, in place."""
    size = cluster_sizes(label, num_clusters)
    for cluster in (size == 0).nonzero().squeeze(1):
        row = distance.masked_fill(size[label] < 2, -torch.inf).argmax()
        size[label[row]] -= 1
        size[cluster] += 1
        label[row] = cluster


def small_size(num_features: int, num_clusters: int) -> int:
    """Number of members below which a cluster is small, at least 1.

    20 for ImageNet with 10,000 clusters (InterCLR and ODC), scaled with N / C.
    """
    return max(round(SMALL_SHARE * num_features / num_clusters), 1)
