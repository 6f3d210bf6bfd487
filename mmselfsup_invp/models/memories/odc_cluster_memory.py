import torch.nn.functional as F
from mmselfsup.registry import MODELS
from torch import Tensor

from .cluster_memory import ClusterMemory


@MODELS.register_module()
class ODCClusterMemory(ClusterMemory):
    """:class:`ClusterMemory` for MMSelfSup's own ``ODC``, in place of its ``ODCMemory``.

    The host's memory needs several processes and CUDA and is lost at a restart; with this one,
    ``OnlineClusterHook`` and ``ODCReweightHook``, ODC (`arXiv:2006.10645
    <https://arxiv.org/abs/2006.10645>`_) trains and resumes on a CPU, one GPU or many.

    Args:
        num_classes (int): Clusters, under the name that ODC has for them. Defaults to 10000.
        **kwargs: See :class:`ClusterMemory`; ODC's own metric is ``'dot'``.
    """

    def __init__(self, num_classes: int = 10000, metric: str = 'dot', **kwargs) -> None:
        super().__init__(num_clusters=num_classes, metric=metric, **kwargs)

    @property
    def label_bank(self) -> Tensor:
        """Pseudo-labels of all images, int64, shape ``(N,)``."""
        return self.labels

    def update_samples_memory(self, sample: Tensor, feature: Tensor) -> Tensor:
        """Take a batch at once (no gradient needs the bank) and tell the share of new labels.

        Args:
            sample (Tensor): int64, shape ``(B,)``.
            feature (Tensor): Float, shape ``(B, D)``.

        Returns:
            Tensor: A scalar.
        """
        before = self.label_changes.clone()
        sample = sample.to(self.bank.device)
        self.stage(sample, F.normalize(feature.float(), dim=1))
        self.commit()
        changed, given = self.label_changes - before
        return changed / given
