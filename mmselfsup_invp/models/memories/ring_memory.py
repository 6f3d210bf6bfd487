import logging

import torch
from mmengine.logging import print_log
from torch import Tensor

from .feature_memory import FeatureMemory


class RingMemory(FeatureMemory):
    """The latest features, each in place of the oldest: rows are slots of a ring.

    Args:
        length (int): Slots; lowered to the size of the data set, beyond which two features of an
            image would stand in it. Defaults to 65536, as in MoCo.
        **kwargs: See :class:`FeatureMemory`: feat_dim, init, seed, dtype.
    """

    def __init__(self, length: int = 65536, **kwargs) -> None:
        super().__init__(**kwargs)
        self.register_buffer('pointer', torch.tensor(0))
        self.resize(length)

    def fit(self, num_images: int) -> None:
        """Lower the length to the data set's, with a warning."""
        if len(self) > num_images:
            print_log(
                f'The queue of {len(self)} is lowered to the {num_images} images of the data set.',
                logger='current',
                level=logging.WARNING,
            )
            self.resize(num_images)

    def write(self, sample: Tensor, key: Tensor) -> Tensor:
        """Put keys in place of the oldest; one that is not finite leaves the old value.

        Args:
            sample (Tensor): int64, shape ``(B,)``, ids for the message about such keys.
            key (Tensor): Float, unit rows, shape ``(B, D)``, of all ranks.

        Returns:
            Tensor: int64, shape ``(B,)``: the slots written.

        Raises:
            ValueError: If the batch is longer than the queue.
        """
        if len(key) > len(self):
            raise ValueError(
                f'A batch of {len(key)} (all processes) does not fit into a queue of '
                f'{len(self)}: lower train_dataloader.batch_size or raise the length of the queue.'
            )
        slots = (self.pointer + torch.arange(len(key), device=key.device)) % len(self)
        finite = self.keep_finite(sample, key)
        self.bank[slots] = torch.where(finite[:, None], key.to(self.bank.dtype), self.bank[slots])
        self.pointer.copy_((self.pointer + len(key)) % len(self))
        return slots
