from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmselfsup.registry import HOOKS
from torch import Tensor

from ...models.memories import ODCClusterMemory
from ...ops import cluster_sizes
from ...ops.checks import require_range
from .common import unwrap


@HOOKS.register_module()
class ODCReweightHook(Hook):
    """Weigh the loss of MMSelfSup's ``ODC`` by the sizes of the clusters.

    Section 3.2 of `ODC <https://arxiv.org/abs/2006.10645>`_: a cluster of n images weighs
    ``n ** -power``. The weights are scaled to a mean of 1 over the images, as PyTorch's weighted
    cross entropy does; those of the host sum to 1 over the clusters, and its loss is smaller by
    their number. An empty cluster weighs nothing.

    Args:
        power (float): Exponent; 0 weighs all alike. Defaults to 0.5 (the paper).
        interval (int): Iterations between two looks at the sizes. Defaults to 10.
    """

    priority = 'LOW'  # After OnlineClusterHook.

    def __init__(self, power: float = 0.5, interval: int = 10) -> None:
        require_range('interval', interval, 1, 2**31, 'it counts iterations')
        self.power = power
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Weigh by the sizes at the start."""
        self._reweight(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Weigh by the sizes as they are now."""
        if self.every_n_train_iters(runner, self.interval):
            self._reweight(runner)

    def _reweight(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        memory = getattr(model, 'memory_bank', None)
        if not isinstance(memory, ODCClusterMemory):
            raise TypeError(
                f'ODCReweightHook needs ODC with an ODCClusterMemory, not {type(model).__name__} '
                f'with {type(memory).__name__}.'
            )
        size = cluster_sizes(memory.labels, memory.num_clusters)
        model.loss_weight.copy_(cluster_weights(size, self.power))
        model.head.loss.class_weight = model.loss_weight


def cluster_weights(size: Tensor, power: float) -> Tensor:
    """``size ** -power`` with a mean of 1 over the images, float32, shape ``(C,)``."""
    weight = size.clamp(min=1).float() ** -power * (size > 0)
    return weight * size.sum() / (weight * size).sum()
