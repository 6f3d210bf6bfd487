import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor

from ...compat.host import MODELS
from ...memory import Clusters, FeatureBank
from ...memory.clusters import Assigner, NumClusters
from ...memory.initial import InitialRows, RowType
from ...ops.clustering import Metric
from ...ops.search import BankRows
from ...options import (
    Channels,
    Fraction,
    InitCfg,
    NonNegativeInt,
    PositiveFloat,
    Seed,
    checked,
)
from .base import Memory


@MODELS.register_module()
@checked
class ClusterMemory(Memory):
    """One feature and one pseudo-label for every image, and the centroids of the clusters.

    The memory of `InterCLR <https://arxiv.org/abs/2008.11702>`_ (section 3.2), which is that of
    `ODC <https://arxiv.org/abs/2006.10645>`_. All images are clustered once at the start. Then the
    row of a visited image becomes ``bank <- normalize(m * old + (1 - m) * new)`` and its label that
    of the best cluster; the hook updates centroids and repairs clusters now and then.

    Args:
        num_clusters (int): C. Defaults to 10000 (the paper, on ImageNet).
        momentum (float): m, weight of the **old** row. Defaults to 0.5 (the paper, whose omega
            is the weight of the new one).
        metric, assigner, lambd, min_size: See :class:`~mmselfsup_invp.memory.Clusters`.
        length (int, optional): N. Defaults to None: the hook takes it from the data set.
        feat_dim, init, seed, dtype, shard, offload: See
            :class:`~mmselfsup_invp.memory.FeatureBank`. With ``shard``, labels and centroids are on
            all processes, and the clustering of all images needs all features on the main one.
        init_cfg (dict, optional): Not used. Defaults to None.

    Example:
        >>> memory = ClusterMemory(num_clusters=2, feat_dim=2, length=3)
        >>> memory.cluster(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]))
        >>> bool(memory.labels[1] == memory.labels[2] != memory.labels[0])
        True
    """

    holds_images = True
    hook = "clusters=dict(type='OnlineClusterHook', ...)"

    def __init__(
        self,
        num_clusters: NumClusters = 10000,
        momentum: Fraction = 0.5,
        metric: Metric = 'euclidean',
        assigner: Assigner = 'nearest',
        lambd: PositiveFloat = 100.0,
        min_size: NonNegativeInt | None = None,
        length: NonNegativeInt | None = None,
        feat_dim: Channels = 128,
        init: InitialRows = 'unit',
        seed: Seed = 0,
        dtype: RowType = 'float32',
        shard: bool = False,
        offload: bool = False,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        length = length or 0
        options = dict(metric=metric, assigner=assigner, lambd=lambd, min_size=min_size)
        self.clusters = Clusters(num_clusters, feat_dim, length, **options)
        self.features = FeatureBank(
            feat_dim,
            length,
            momentum=momentum,
            init=init,
            seed=seed,
            dtype=dtype,
            shard=shard,
            offload=offload,
        )

    @property
    def bank(self) -> Tensor | BankRows:
        """Features, shape ``(N, D)``."""
        return self.features.view('bank')

    @property
    def labels(self) -> Tensor:
        """Clusters of the images, int64, shape ``(N,)``; -1 before the first clustering."""
        return self.clusters.labels

    @property
    def centroids(self) -> Tensor:
        """Means of the clusters, float32, shape ``(C, D)``."""
        return self.clusters.centroids

    @property
    def num_clusters(self) -> int:
        """C."""
        return self.clusters.num_clusters

    @property
    def clustered(self) -> bool:
        """Whether every image has a label; waits for the device."""
        return self.clusters.clustered

    @torch.no_grad()
    def cluster(self, feature: Tensor, *, keep_bank: bool = False, seed: int = 0) -> None:
        """Cluster the features of all images by k-means, on the first rank, for all.

        Args:
            feature (Tensor): Float, shape ``(N, D)``, in the order of the data set.
            keep_bank (bool): Whether only labels and centroids change. Defaults to False: the
                bank takes the features too.
            seed (int): Seed of k-means. Defaults to 0.
        """
        feature = F.normalize(feature.to(self.bank.device).float(), dim=1)
        if not keep_bank:
            self.features.replace(feature)
        if dist.is_main_process():
            self.clusters.cluster(feature, seed)
        self._broadcast()

    def write(self, sample_idx: Tensor, feature: Tensor) -> None:
        """Update the rows of a batch and, with :attr:`refresh`, their labels."""
        self.features.update(sample_idx, feature, self.monitor.watch(sample_idx, feature))
        if self.refresh:
            self.clusters.relabel(sample_idx, self.features.common_rows(sample_idx))

    def update_centroids(self) -> None:
        """Move every centroid to the mean of its members; one without members stays."""
        self.clusters.update_centroids(self.bank)
        dist.broadcast(self.centroids)

    def repair(self) -> int:
        """Keep clusters from running empty; see :meth:`~mmselfsup_invp.memory.Clusters.repair`.

        Returns:
            int: Clusters that were small by the labels of this rank; all ranks then take over the
            state of the main process.
        """
        # If rounding made the labels of the ranks differ, one rank would find small clusters where
        # another finds none; with shard=True it would wait for the other's features.
        if self.features.split:
            self._broadcast()
        repaired = self.clusters.repair(self.bank)
        self._broadcast()
        return repaired

    def label_change_ratio(self) -> float | None:
        """Share of the labels given since the last call that changed; None if none was given."""
        return self.clusters.change_ratio()

    def _broadcast(self) -> None:
        for buffer in self.clusters.buffers():
            dist.broadcast(buffer)
