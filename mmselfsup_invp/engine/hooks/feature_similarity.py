import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor, nn

# Weight of the earlier batches in the running mean: it covers about the last ten.
DECAY = 0.9


def mean_similarity(feature: Tensor) -> Tensor:
    """Mean cosine similarity between different rows of ``(B, D)``, B at least 2; a float32 scalar.

    Over all pairs i != j of B unit rows f it equals ``(|sum f|^2 - B) / (B (B - 1))``: 1 if all
    rows are alike, about 0 if they are spread evenly. Rows of zeros count as alike.
    """
    feature = feature.float()
    zero = (feature == 0).all(dim=1, keepdim=True)
    unit = F.normalize(torch.where(zero, 1.0, feature), dim=1)
    num = len(unit)
    return (unit.sum(dim=0).square().sum() - num) / (num * (num - 1))


class FeatureSimilarity:
    """Running mean of :func:`mean_similarity` over the outputs of a neck in training.

    The first output, ``(B, ...)``, of every forward pass with gradients counts. Values stay on the
    device until :meth:`compute` is called.
    """

    def __init__(self, neck: nn.Module) -> None:
        self._handle = neck.register_forward_hook(self._update)
        self._reset()

    def _reset(self) -> None:
        self._sum: Tensor | None = None
        self._weight = 0.0

    def _update(self, neck: nn.Module, inputs: tuple, output: list[Tensor]) -> None:
        if not (neck.training and torch.is_grad_enabled()) or len(output[0]) < 2:
            return
        value = mean_similarity(output[0].detach().flatten(1))
        self._sum = value if self._sum is None else DECAY * self._sum + value
        self._weight = DECAY * self._weight + 1

    def compute(self) -> float | None:
        """Return the mean since the last call, over all ranks; None if there was no batch."""
        if self._sum is None:
            return None
        mean = self._sum / self._weight
        dist.all_reduce(mean, 'mean')
        self._reset()
        return mean.item()

    def remove(self) -> None:
        """Stop observing the neck."""
        self._handle.remove()
