import functools
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..ops import clustering, repair_small
from ..ops.clustering import Metric
from ..ops.search import BankRows
from ..ops.sinkhorn import scale_classes
from ..options import MAX_INT, Channels, NonNegativeInt, PositiveFloat, Range, checked
from .counter import ChangeCounter
from .state import RowState

Assigner = Literal['nearest', 'equal']
NumClusters = Annotated[int, Range(2, MAX_INT)]  # Negatives are members of other clusters.
# Label of a row that has not been clustered yet.
UNCLUSTERED = -1
# Equal clusters: features that a step of the offsets samples, and the lowest share, of the average
# size, that a cluster counts with.
SAMPLE_SIZE = 2**14
LOWEST_SHARE = 1e-3
# Equal clusters: when the first search of the offsets stops.
TOLERANCE = 0.01
MAX_PASSES = 100


@checked
class Clusters(RowState):
    """Cluster of every image and the centroids of the clusters.

    The pseudo-labels of `online deep clustering <https://arxiv.org/abs/2006.10645>`_ and `InterCLR
    <https://arxiv.org/abs/2008.11702>`_ (section 3.2): found once by k-means over all features,
    then kept up to date by :meth:`relabel`, :meth:`update_centroids` and :meth:`repair`.

    Buffers: ``labels`` (N,), int64, -1 before the first clustering; ``centroids`` (C, D), float32,
    means of the clusters, not normalised; ``offset`` (C,), float32, added to the scores of the
    clusters by the equal assigner, else 0.

    Args:
        num_clusters (int): C, at least 2. Defaults to 10000.
        feat_dim (int): D. Defaults to 128.
        length (int): N, images; 0 leaves it to :meth:`resize` or a checkpoint. Defaults to 0.
        metric (str): How the centroid of a feature is chosen: ``'euclidean'`` (the InterCLR paper)
            or ``'dot'`` (the code); see :func:`~mmselfsup_invp.ops.assign`. Defaults to
            ``'euclidean'``.
        assigner (str): ``'nearest'``: the nearest centroid; :meth:`repair` refills small clusters
            (ODC). ``'equal'``: clusters of about equal size, as in `SeLa
            <https://arxiv.org/abs/1911.05371>`_: Sinkhorn-Knopp finds an offset for each cluster
            that is added to its scores, and :meth:`repair` updates the offsets by one pass over a
            sample of the features. Defaults to ``'nearest'``.
        lambd (float): lambda of Sinkhorn-Knopp, on scores of unit features. Defaults to 100 (SeLa
            has 25, on log-probabilities, which are larger).
        min_size (int, optional): Members below which a cluster is small, with ``'nearest'``; 0
            repairs none. Defaults to None: 20 at N / C = 128, as on ImageNet, scaled to N / C.

    Raises:
        ValueError: If an option is outside its valid values.

    Example:
        >>> clusters = Clusters(num_clusters=2, feat_dim=2, length=3)
        >>> clusters.cluster(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]))
        >>> bool(clusters.labels[1] == clusters.labels[2] != clusters.labels[0])
        True
    """

    labels: Tensor
    centroids: Tensor
    offset: Tensor

    def __init__(
        self,
        num_clusters: NumClusters = 10000,
        feat_dim: Channels = 128,
        length: NonNegativeInt = 0,
        *,
        metric: Metric = 'euclidean',
        assigner: Assigner = 'nearest',
        lambd: PositiveFloat = 100.0,
        min_size: NonNegativeInt | None = None,
    ) -> None:
        super().__init__()
        self.num_clusters = num_clusters
        self.metric = metric
        self.assigner = assigner
        self.lambd = lambd
        self.min_size = min_size
        self.register_rows('labels', torch.empty(0, dtype=torch.int64))
        self.register_buffer('centroids', torch.zeros(num_clusters, feat_dim))
        self.register_buffer('offset', torch.zeros(num_clusters))
        self.changes = ChangeCounter()
        if length:
            self.resize(length)

    def resize(self, length: int) -> None:
        """Give all of ``length`` images no label."""
        if self.num_clusters > length:
            raise ValueError(
                f'{length} images cannot fill {self.num_clusters} clusters: num_clusters must be '
                f'2 to {length}; at most {max(length // 8, 2)} leave 8 images for each.'
            )
        self.labels = self.labels.new_full((length,), UNCLUSTERED)

    @property
    def clustered(self) -> bool:
        """Whether every image has a label; waits for the device."""
        return len(self) > 0 and bool((self.labels != UNCLUSTERED).all())

    @torch.no_grad()
    def cluster(self, feature: Tensor, seed: int = 0) -> None:
        """Cluster all images by k-means.

        Args:
            feature (Tensor): float32, unit rows, shape ``(N, D)``.
            seed (int): Seed of k-means. Defaults to 0.
        """
        labels, centroids = clustering.kmeans(feature, self.num_clusters, seed=seed)
        self.centroids.copy_(centroids)
        if self.assigner == 'equal':
            self._equalise(feature)
            labels = self.assign(feature)
            self.centroids.copy_(clustering.cluster_means(feature, labels, self.centroids))
        self.changes.add(self.labels != labels, self.labels != UNCLUSTERED)
        self.labels.copy_(labels)

    def assign(self, feature: Tensor) -> Tensor:
        """Best cluster of each feature ``(B, D)``, int64, ``(B,)``."""
        offset = self.offset if self.assigner == 'equal' else None
        return clustering.assign(feature, self.centroids, self.metric, offset)

    @torch.no_grad()
    def relabel(self, sample_idx: Tensor, feature: Tensor) -> None:
        """Assign images to their best cluster.

        Args:
            sample_idx (Tensor): int64, shape ``(B,)``; equal entries have equal features.
            feature (Tensor): Float, shape ``(B, D)``.
        """
        labels = self.assign(feature)
        self.changes.add(self.labels[sample_idx] != labels)
        self.labels[sample_idx] = labels

    @torch.no_grad()
    def update_centroids(self, feature: Tensor | BankRows) -> None:
        """Move every centroid to the mean of its members; one without members stays.

        Args:
            feature (Tensor | BankRows): Float, shape ``(N, D)``.
        """
        self.centroids.copy_(clustering.cluster_means(feature, self.labels, self.centroids))

    @torch.no_grad()
    def repair(self, feature: Tensor | BankRows) -> int:
        """Keep clusters from running empty; waits for the device.

        With ``'nearest'`` small clusters are dissolved and refilled from the largest
        (:func:`~mmselfsup_invp.ops.repair_small`). With ``'equal'`` the offsets take one step of
        Sinkhorn-Knopp; the labels follow in :meth:`relabel`.

        Args:
            feature (Tensor | BankRows): Float, shape ``(N, D)``.

        Returns:
            int: Clusters that were small; 0 with ``'equal'``.
        """
        if self.assigner == 'equal':
            self._update_offset(feature)
            return 0
        limit = self.min_size
        if limit is None:
            limit = clustering.small_size(len(self), self.num_clusters)
        return len(repair_small(feature, self.labels, self.centroids, limit))

    def change_ratio(self) -> float | None:
        """Share of the labels given since the last call that differ from the label before.

        First labels do not count. Waits for the device.

        Returns:
            float | None: Within 0 to 1; None if no label was given.
        """
        return self.changes.ratio()

    def _equalise(self, feature: Tensor) -> None:
        """Find the offsets with which the features spread evenly over the clusters."""
        blocks = functools.partial(clustering.scores, feature, self.centroids, self.metric)
        scaling = scale_classes(blocks, self.lambd, TOLERANCE, MAX_PASSES, criterion='relative')
        self.offset.copy_(scaling.log_class / self.lambd)

    def _update_offset(self, feature: Tensor | BankRows) -> None:
        """Continue Sinkhorn-Knopp from the present offsets by one pass over a sample."""
        rows = torch.randint(len(self), (min(len(self), SAMPLE_SIZE),), device=self.labels.device)
        total = torch.zeros_like(self.offset)
        for block in clustering.scores(feature[rows], self.centroids, self.metric):
            total += block.add_(self.offset).mul_(self.lambd).softmax(dim=1).sum(dim=0)
        share = total * (self.num_clusters / len(rows))
        self.offset -= share.clamp(min=LOWEST_SHARE).log() / self.lambd
