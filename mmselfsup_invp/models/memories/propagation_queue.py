import torch
from mmengine import dist
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops.graph import UNFILLED
from .graph_memory import GraphMemory
from .ring_memory import RingMemory
from .sized_memory import gather_ranks


@MODELS.register_module()
class PropagationQueue(RingMemory, GraphMemory):
    """The latest keys of a momentum encoder and the graph over them.

    The alternative to a bank that `InvP <https://arxiv.org/abs/2010.11694>`_ suggests for large
    data sets (section 3.1): its size does not grow with the data, and no row is older than
    ``length`` images. Rows are slots of a ring. A batch's keys are queued before the loss, so
    that each image's own slot is its anchor; its neighbours are found in the same search.

    When a slot is overwritten, edges to it no longer mean what they meant and are removed; old
    entries lose their neighbours that way until they leave the queue themselves.

    Args:
        **kwargs: See :class:`RingMemory`, length (a second key of an image would be a false
            negative of the first), and :class:`GraphMemory`: feat_dim, num_neighbours, backend,
            init, seed, dtype.
    """

    samples: Tensor | None = None  # Of the keys queued last, for messages.

    @torch.no_grad()
    def insert(self, key: Tensor, sample: Tensor) -> Tensor:
        """Queue the keys of every rank in place of the oldest.

        Args:
            key (Tensor): Float, unit rows, shape ``(B, D)``.
            sample (Tensor): int64, shape ``(B,)``, for the message about keys that are not
                finite; those are queued as the slot's old value.

        Returns:
            Tensor: int64, shape ``(B,)``: the slots of this rank's keys, the anchors.

        Raises:
            ValueError: If the batch of all ranks is longer than the queue.
        """
        keys, self.samples = gather_ranks(key, sample)
        slots = self.write(self.samples, keys)
        self._forget(slots)
        start = dist.get_rank() * len(key)
        return slots[start : start + len(key)]

    def _forget(self, slots: Tensor) -> None:
        overwritten = torch.zeros(len(self), dtype=torch.bool, device=slots.device)
        overwritten[slots] = True
        stale = overwritten[self.neighbours.clamp(min=0)]
        self.neighbours.masked_fill_(stale | overwritten[:, None], UNFILLED)

    @torch.no_grad()
    def stage(self, slot: Tensor, feature: Tensor, neighbours: Tensor) -> None:
        """Link the anchors at once: their walk starts on the edges found in this very search.

        Args:
            slot (Tensor): int64, shape ``(B,)``, from :meth:`insert`.
            feature (Tensor): Float, shape ``(B, D)``, what the neighbours were found for; not
                queued, for the queue holds the keys. Slots whose feature is not finite stay
                unfilled.
            neighbours (Tensor): int64, shape ``(B, k)``.
        """
        slots, features, found = gather_ranks(slot, feature.detach(), neighbours)
        finite = self.keep_finite(self.samples, features)
        self.link(slots, found.masked_fill(~finite[:, None], UNFILLED))

    def commit(self, refresh: bool = True) -> None:
        """Nothing is left to do after the step."""

    def end_epoch(self) -> None:
        """Nothing changes with the epoch."""
