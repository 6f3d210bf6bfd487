import functools

import torch
from mmengine import dist
from mmselfsup.registry import MODELS
from torch import Tensor

from ... import ops
from ...ops.checks import require_choice, require_positive, require_range
from ...ops.clustering import METRICS
from ...ops.sinkhorn import scale_classes
from .feature_memory import FeatureMemory, require_momentum
from .sized_memory import first_of_equal, gather_ranks

ASSIGNERS = ('nearest', 'equal')
# Rows of the bank whose clusters are counted when offsets follow, and the share of its due that a
# cluster without any of them counts as.
FOLLOW_ROWS = 2**14
SMALLEST_SHARE = 1e-3
# A row that has not been clustered yet.
UNCLUSTERED = -1


@MODELS.register_module()
class ClusterMemory(FeatureMemory):
    """One feature and one pseudo-label for every image, and the centroids of the clusters.

    The memory of InterCLR (`arXiv:2008.11702 <https://arxiv.org/abs/2008.11702>`_, section 3.2),
    which is that of ODC (`arXiv:2006.10645 <https://arxiv.org/abs/2006.10645>`_). Clustered once
    at the start, it stays fresh: a visited image's row becomes
    ``bank <- normalize(m * old + (1 - m) * new)`` and its label that of the nearest centroid.

    All state is in registered buffers, the same on every rank, saved and restored with the model:

    - ``bank`` (N, D): one unit feature an image.
    - ``labels`` (N,), int64: its cluster; -1 before the first clustering.
    - ``centroids`` (C, D), float32: means of the clusters, not normalised.
    - ``offset`` (C,), float32: added to the scores of the clusters; zero unless they are equal.

    The branch calls :meth:`stage` in its forward pass and the hook :meth:`commit` after the
    optimiser step, since backward still reads the rows.

    Args:
        num_clusters (int): C. Defaults to 10000 (the paper, on ImageNet).
        momentum (float): m, weight of the **old** row. Defaults to 0.5 (the paper, whose omega
            weighs the new one).
        metric (str): How a feature finds its centroid: ``'euclidean'`` (the paper) or ``'dot'``
            (the code); see :func:`~mmselfsup_invp.ops.assign`. Defaults to ``'euclidean'``.
        assigner (str): ``'nearest'``: a feature joins the nearest centroid, and :meth:`repair`
            refills small clusters (ODC). ``'equal'``: the rule of SeLa (`arXiv:1911.05371
            <https://arxiv.org/abs/1911.05371>`_), clusters of equal size: each has an offset,
            found by Sinkhorn-Knopp, that is added to its scores, and :meth:`repair` lets the
            offsets follow by a pass over a sample of the bank. Defaults to ``'nearest'``.
        lambd (float): lambda of Sinkhorn-Knopp, on scores of unit features. Defaults to 100
            (SeLa has 25, on log-probabilities, which are larger).
        min_size (int, optional): With ``'nearest'``, members below which a cluster is small; 0
            repairs none. Defaults to None: 20 at N / C = 128, as on ImageNet, scaled to N / C.
        length (int, optional): N; None to let :meth:`fit` decide. Defaults to None.
        **kwargs: See :class:`FeatureMemory`: feat_dim, init, seed, dtype.

    Example:
        >>> memory = ClusterMemory(num_clusters=2, feat_dim=2, length=3)
        >>> memory.cluster(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]))
        >>> bool(memory.labels[1] == memory.labels[2] != memory.labels[0])
        True
    """

    row_buffers = ('bank', 'labels')
    holds_images = True

    def __init__(
        self,
        num_clusters: int = 10000,
        momentum: float = 0.5,
        metric: str = 'euclidean',
        assigner: str = 'nearest',
        lambd: float = 100.0,
        min_size: int | None = None,
        length: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        require_range('num_clusters', num_clusters, 2, 2**31, 'negatives are of other clusters')
        require_momentum(momentum)
        require_choice('metric', metric, METRICS)
        require_choice('assigner', assigner, ASSIGNERS)
        require_positive('lambd', lambd, '100')
        self.num_clusters = num_clusters
        self.momentum = momentum
        self.metric = metric
        self.assigner = assigner
        self.lambd = lambd
        self.min_size = min_size
        self.staged: tuple[Tensor, Tensor] | None = None
        self.register_buffer('labels', torch.empty(0, dtype=torch.int64))
        self.register_buffer('centroids', torch.zeros(num_clusters, self.feat_dim))
        # Added to the scores of the clusters; zero unless they are to be equal.
        self.register_buffer('offset', torch.zeros(num_clusters))
        # Labels changed and labels given since the hook last looked; not part of the state.
        self.register_buffer('label_changes', torch.zeros(2, dtype=torch.int64), persistent=False)
        if length is not None:
            self.resize(length)

    def resize(self, length: int) -> None:
        """Give the memory ``length`` rows without labels.

        Raises:
            ValueError: If there would be more clusters than rows.
        """
        if self.num_clusters > length:
            raise ValueError(
                f'{length} images cannot fill {self.num_clusters} clusters: num_clusters must be '
                f'2 to {length}; fewer than {max(length // 8, 2)} leave 8 images for each.'
            )
        super().resize(length)
        self.labels = self.labels.new_full((length,), UNCLUSTERED)

    @property
    def clustered(self) -> bool:
        """Whether every row has a label (looks at the values: not for use in a step)."""
        return len(self) > 0 and bool((self.labels != UNCLUSTERED).all())

    @torch.no_grad()
    def cluster(self, feature: Tensor, *, keep_bank: bool = False, seed: int = 0) -> None:
        """Cluster the features of all images by k-means, on the first rank, for all.

        Args:
            feature (Tensor): Float, shape ``(N, D)``, in the order of the data set.
            keep_bank (bool): Whether only labels and centroids change. Defaults to False: the
                bank takes the features too.
            seed (int): Of k-means. Defaults to 0.
        """
        feature = torch.nn.functional.normalize(feature.to(self.bank.device).float(), dim=1)
        if not keep_bank:
            self.bank.copy_(feature)
        before = self.labels.clone()
        if dist.is_main_process():
            labels, centroids = ops.kmeans(feature, self.num_clusters, seed=seed)
            self.labels.copy_(labels)
            self.centroids.copy_(centroids)
            if self.assigner == 'equal':
                self._equalise(feature)
                self.labels.copy_(self._assign(feature))
                self.centroids.copy_(ops.cluster_means(feature, self.labels, self.centroids))
        self._broadcast()
        self._count_changes(before[before != UNCLUSTERED], self.labels[before != UNCLUSTERED])

    def stage(self, sample: Tensor, feature: Tensor) -> None:
        """Keep a batch until :meth:`commit`.

        Args:
            sample (Tensor): int64, shape ``(B,)``, ``sample_idx`` of the images.
            feature (Tensor): Float, unit rows, shape ``(B, D)``.

        Raises:
            RuntimeError: If the batch before was never committed.
        """
        if self.staged is not None:
            raise RuntimeError(
                'The clusters were not updated after the last iteration. Add '
                "default_hooks = dict(clusters=dict(type='OnlineClusterHook', ...)) to the config."
            )
        self.staged = (sample, feature.detach())

    @torch.no_grad()
    def commit(self, refresh: bool = True) -> None:
        """Write the staged batch, of every rank, into the bank and give it new labels.

        Args:
            refresh (bool): Whether the labels change too. Defaults to True.
        """
        if self.staged is None:
            return
        sample, feature = gather_ranks(*self.staged)
        self.staged = None
        self._average(sample, feature[first_of_equal(sample)], self.momentum)
        if refresh:
            labels = self._assign(self.bank[sample])
            self._count_changes(self.labels[sample], labels)
            self.labels[sample] = labels

    @torch.no_grad()
    def update_centroids(self) -> None:
        """Make every centroid the mean of its members; one without members keeps its place."""
        self.centroids.copy_(ops.cluster_means(self.bank, self.labels, self.centroids))
        dist.broadcast(self.centroids)

    @torch.no_grad()
    def repair(self) -> int:
        """Keep clusters from running empty, each assigner its way; see the class.

        Returns:
            int: How many clusters were small (:func:`~mmselfsup_invp.ops.repair_small`), by the
            labels of this rank; those of the main process are everyone's afterwards.
        """
        if self.assigner == 'equal':
            self._follow()
            dist.broadcast(self.offset)
            return 0
        limit = self.min_size
        if limit is None:
            limit = ops.small_size(len(self), self.num_clusters)
        repaired = ops.repair_small(self.bank, self.labels, self.centroids, limit)
        # Found or not: if last digits set the labels of the ranks apart, one alone may find some.
        self._broadcast()
        return len(repaired)

    def _assign(self, feature: Tensor) -> Tensor:
        offset = self.offset if self.assigner == 'equal' else None
        return ops.assign(feature, self.centroids, self.metric, offset)

    def _equalise(self, feature: Tensor) -> None:
        """Find the offsets with which the features spread evenly over the clusters."""
        blocks = functools.partial(ops.scores, feature, self.centroids, self.metric)
        scaling = scale_classes(blocks, self.lambd, tol=0.01, max_iter=100, criterion='relative')
        self.offset.copy_(scaling.log_class / self.lambd)

    def _follow(self) -> None:
        """Go on with Sinkhorn-Knopp by one pass, from the offsets as they are."""
        rows = torch.randint(len(self), (min(len(self), FOLLOW_ROWS),), device=self.bank.device)
        total = torch.zeros_like(self.offset)
        for block in ops.scores(self.bank[rows], self.centroids, self.metric):
            total += block.add_(self.offset).mul_(self.lambd).softmax(dim=1).sum(dim=0)
        share = total * (self.num_clusters / len(rows))
        self.offset -= share.clamp(min=SMALLEST_SHARE).log() / self.lambd

    def _broadcast(self) -> None:
        for buffer in (self.labels, self.centroids, self.offset):
            dist.broadcast(buffer)

    def _count_changes(self, old: Tensor, new: Tensor) -> None:
        self.label_changes[0] += (old != new).sum()
        self.label_changes[1] += len(new)

    def label_change_ratio(self) -> float | None:
        """Share of the labels that changed since the last call."""
        changed, written = self.label_changes.tolist()
        self.label_changes.zero_()
        return changed / written if written else None
