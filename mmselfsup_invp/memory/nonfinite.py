import torch
from torch import Tensor, nn

from ..ops.collectives import gather

# How many ids the message of the error lists.
NUM_IDS = 8


class NonFiniteFeatures(RuntimeError):
    """The network gave NaN or Inf."""


def finite_rows(feature: Tensor) -> Tensor:
    """Which rows ``(B, D)`` hold neither NaN nor Inf, bool, ``(B,)``."""
    return feature.isfinite().all(dim=1)


class NonFiniteMonitor(nn.Module):
    """Records the first features that hold NaN or Inf, without waiting for the device.

    :meth:`watch` is called in every step, :meth:`check` now and then. The record is not saved with
    the state.

    Attributes:
        iteration (int): Number of the current step, set by the training loop. Defaults to 0.

    Example:
        >>> monitor = NonFiniteMonitor()
        >>> monitor.watch(torch.tensor([5, 3]), torch.tensor([[1.0], [torch.nan]]))
        tensor([ True, False])
        >>> monitor.check()
        Traceback (most recent call last):
        ...
        mmselfsup_invp.memory.nonfinite.NonFiniteFeatures: Features became NaN or Inf in \
iteration 0, first for the samples [3]. They did not enter the memory. Try a lower learning rate \
or gradient clipping (optim_wrapper.clip_grad), look at those images and, with --amp, at the loss \
scale; resume from the last checkpoint.
    """

    sample_idx: Tensor
    first_iteration: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('sample_idx', torch.full((NUM_IDS,), -1), persistent=False)
        self.register_buffer('first_iteration', torch.tensor(-1), persistent=False)
        self.iteration = 0

    @torch.no_grad()
    def watch(self, sample_idx: Tensor, feature: Tensor) -> Tensor:
        """Find the features that are finite and record the first that are not.

        Args:
            sample_idx (Tensor): int64, shape ``(B,)``, ids of the images.
            feature (Tensor): Float, shape ``(B, D)``.

        Returns:
            Tensor: bool, shape ``(B,)``, which features are finite.
        """
        finite = finite_rows(feature)
        position = finite.to(torch.uint8).argsort(stable=True)[:NUM_IDS]
        found = torch.full_like(self.sample_idx, -1)
        found[: len(position)] = torch.where(finite[position], -1, sample_idx[position])
        is_first = (self.first_iteration < 0) & ~finite.all()
        iteration = torch.where(is_first, self.iteration, self.first_iteration)
        self.first_iteration.copy_(iteration)
        self.sample_idx.copy_(torch.where(is_first, found, self.sample_idx))
        return finite

    def check(self) -> None:
        """Raise if a feature was not finite in any process, and then in all; waits for the device.

        Raises:
            NonFiniteFeatures: With the iteration and the ids of the first such features.
        """
        iterations = gather(self.first_iteration[None]).tolist()
        iteration = min((one for one in iterations if one >= 0), default=-1)
        if iteration < 0:
            return
        first = gather(self.sample_idx[None])[iterations.index(iteration)]
        ids = first[first >= 0].tolist()
        raise NonFiniteFeatures(
            f'Features became NaN or Inf in iteration {iteration}, first for the samples {ids}. '
            'They did not enter the memory. Try a lower learning rate or gradient clipping '
            '(optim_wrapper.clip_grad), look at those images and, with --amp, at the loss scale; '
            'resume from the last checkpoint.'
        )
