import torch
from mmselfsup.registry import MODELS
from torch import Tensor

from .ring_memory import RingMemory
from .sized_memory import gather_ranks


@MODELS.register_module()
class KeyQueue(RingMemory):
    """The latest keys of a momentum encoder: the negatives of MoCo.

    `Momentum Contrast <https://arxiv.org/abs/1911.05722>`_, section 3.2. The algorithm calls
    :meth:`stage` in its forward pass and the hook :meth:`commit` after the optimiser step, since
    backward still reads the queue.

    Args:
        **kwargs: See :class:`RingMemory`: length, feat_dim, init, seed, dtype.
    """

    staged: tuple[Tensor, Tensor] | None = None

    def stage(self, sample: Tensor, key: Tensor) -> None:
        """Keep a batch until :meth:`commit`.

        Args:
            sample (Tensor): int64, shape ``(B,)``, ids, for messages.
            key (Tensor): Float, unit rows, shape ``(B, D)``.

        Raises:
            RuntimeError: If the batch before was never committed.
        """
        if self.staged is not None:
            raise RuntimeError(
                'The queue was not updated after the last iteration. Add '
                "default_hooks = dict(clusters=dict(type='OnlineClusterHook', ...)) to the config."
            )
        self.staged = (sample, key.detach())

    @torch.no_grad()
    def commit(self, refresh: bool = True) -> None:
        """Queue the staged keys of every rank in place of the oldest."""
        if self.staged is not None:
            sample, key = gather_ranks(*self.staged)
            self.staged = None
            self.write(sample, key)
