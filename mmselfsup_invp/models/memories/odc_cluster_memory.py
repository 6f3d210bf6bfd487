import torch.nn.functional as F
from torch import Tensor

from ...compat.host import MODELS
from ...memory.clusters import NumClusters
from ...ops.clustering import Metric
from ...options import checked
from .cluster_memory import ClusterMemory


@MODELS.register_module()
@checked
class ODCClusterMemory(ClusterMemory):
    """:class:`ClusterMemory` for MMSelfSup's ``ODC``, in place of its ``ODCMemory``.

    MMSelfSup's memory needs several processes and CUDA and is lost at a restart. With this one,
    ``OnlineClusterHook`` and ``ODCReweightHook``, `ODC <https://arxiv.org/abs/2006.10645>`_ trains
    and resumes on a CPU, one GPU or many.

    Args:
        num_classes (int): Clusters, under the name that ODC has for them. Defaults to 10000.
        metric (str): See :class:`ClusterMemory`. Defaults to ``'dot'``, as in ODC.
        **kwargs: See :class:`ClusterMemory`.
    """

    def __init__(
        self,
        num_classes: NumClusters = 10000,
        metric: Metric = 'dot',
        **kwargs,
    ) -> None:
        super().__init__(num_clusters=num_classes, metric=metric, **kwargs)

    @property
    def label_bank(self) -> Tensor:
        """Pseudo-labels of all images, int64, shape ``(N,)``, under ODC's name."""
        return self.labels

    def update_samples_memory(self, sample_idx: Tensor, feature: Tensor) -> Tensor:
        """Write a batch at once: in ODC no gradient depends on the bank.

        Args:
            sample_idx (Tensor): int64, shape ``(B,)``.
            feature (Tensor): Float, shape ``(B, D)``.

        Returns:
            Tensor: A scalar, the share of these images whose label changed.
        """
        sample_idx = sample_idx.to(self.bank.device)
        before = self.labels[sample_idx]
        self.stage(sample_idx, F.normalize(feature.float(), dim=1))
        self.commit()
        return (self.labels[sample_idx] != before).float().mean()
