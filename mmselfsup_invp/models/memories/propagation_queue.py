import logging

import torch
from mmengine import dist
from mmengine.logging import print_log
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops.graph import UNFILLED
from .graph_memory import GraphMemory
from .sized_memory import gather_ranks


@MODELS.register_module()
class PropagationQueue(GraphMemory):
    """The latest keys of a momentum encoder and the graph over them.

    The alternative to a bank that `InvP <https://arxiv.org/abs/2010.11694>`_ suggests for large
    data sets (section 3.1): its size does not grow with the data, and no row is older than
    ``length`` images. Rows are slots of a ring. A batch's keys are queued before the loss, so
    that each image's own slot is its anchor; its neighbours are found in the same search.

    When a slot is overwritten, edges to it no longer mean what they meant and are removed; old
    entries lose their neighbours that way until they leave the queue themselves.

    Args:
        length (int): Slots; lowered to the size of the data set, for a second key of an image
            would be a false negative of the first. Defaults to 65536, as in MoCo.
        **kwargs: See :class:`GraphMemory`: feat_dim, num_neighbours, init, seed.
    """

    def __init__(self, length: int = 65536, **kwargs) -> None:
        super().__init__(length=length, **kwargs)
        self.register_buffer('pointer', torch.tensor(0))
        self.samples: Tensor | None = None  # Of the keys queued last, for messages.

    def fit(self, num_images: int) -> None:
        """Lower the length to the data set's, with a warning."""
        if len(self) > num_images:
            print_log(
                f'The queue of {len(self)} is lowered to the {num_images} images of the data set.',
                logger='current',
                level=logging.WARNING,
            )
            self.resize(num_images)

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
        if len(keys) > len(self):
            raise ValueError(
                f'A batch of {len(keys)} (all processes) does not fit into a queue of '
                f'{len(self)}: lower train_dataloader.batch_size or raise memory.length.'
            )
        slots = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self)
        finite = self._keep_finite(self.samples, keys)
        self.bank[slots] = torch.where(finite[:, None], keys.to(self.bank), self.bank[slots])
        self._forget(slots)
        self.pointer.copy_((self.pointer + len(keys)) % len(self))
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
        finite = self._keep_finite(self.samples, features)
        self.link(slots, found.masked_fill(~finite[:, None], UNFILLED))

    def commit(self, link: bool = True) -> None:
        """Nothing is left to do after the step."""

    def end_epoch(self) -> None:
        """Nothing changes with the epoch."""
