from typing import Annotated

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ...compat.host import HOOKS
from ...models.memories import ODCClusterMemory, memories_of
from ...ops import cluster_sizes
from ...options import PositiveInt, Range, checked
from .common import Batch, unwrap


@HOOKS.register_module()
@checked
class ODCReweightHook(Hook):
    """Sets the class weights of MMSelfSup's ``ODC`` from the sizes of the clusters.

    Section 3.2 of `ODC <https://arxiv.org/abs/2006.10645>`_: a cluster of n images has the weight
    ``n ** -power``. The weights are scaled to a mean of 1 over the images, as in PyTorch's weighted
    cross entropy; those of MMSelfSup sum to 1 over the clusters, which scales its loss by the
    inverse of their number. An empty cluster has the weight 0.

    Args:
        power (float): Exponent; 0 gives equal weights. Defaults to 0.5 (the paper).
        interval (int): Iterations between two updates of the weights. Defaults to 10.
    """

    priority = 'LOW'  # After OnlineClusterHook.

    def __init__(
        self, power: Annotated[float, Range(0, 10)] = 0.5, interval: PositiveInt = 10
    ) -> None:
        self.power = power
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Set the weights for the initial clusters; a checkpoint contains those of its run."""
        if runner.iter == 0:
            self._reweight(runner)
        model = unwrap(runner.model)
        model.head.loss.class_weight = model.loss_weight

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Batch = None
    ) -> None:
        """Update the weights."""
        if self.every_n_train_iters(runner, self.interval):
            self._reweight(runner)

    def _reweight(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        memories = [one for one in memories_of(model) if isinstance(one, ODCClusterMemory)]
        if not memories:
            raise TypeError(
                f'ODCReweightHook needs ODC with an ODCClusterMemory, {type(model).__name__} has '
                'none.'
            )
        size = cluster_sizes(memories[0].labels, memories[0].num_clusters)
        model.loss_weight.copy_(cluster_weights(size, self.power))


def cluster_weights(size: Tensor, power: float) -> Tensor:
    """Weights ``size ** -power``, ``(C,)``, scaled to a mean of 1 over the images; 0 if empty."""
    weight = size.clamp(min=1).float() ** -power * (size > 0)
    return weight * size.sum() / (weight * size).sum()
