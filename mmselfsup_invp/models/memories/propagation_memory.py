from typing import Literal

import torch
from torch import Tensor

from ...compat.host import MODELS
from ...memory import FeatureBank
from ...memory.initial import InitialRows, RowType
from ...ops.search import BackendName
from ...options import Channels, Fraction, InitCfg, NonNegativeInt, PositiveInt, Seed, checked
from .base import gather_ranks
from .graph_memory import GraphMemory


@MODELS.register_module()
@checked
class PropagationMemory(GraphMemory):
    """Memory bank of InvP: one feature for every image of the data set.

    Section 3.1 of `InvP <https://arxiv.org/abs/2010.11694>`_. The row of a visited image becomes
    ``bank <- normalize(m * old + (1 - m) * new)`` and takes the neighbours of the new feature. Row
    i belongs to the image with ``sample_idx`` i. An image that occurs twice in a batch (samplers
    repeat images to fill the last one) is written once, with its first feature.

    An algorithm whose keys are written before the loss calls :meth:`take_keys` once and
    :meth:`insert` in every step. One whose keys are written after the step stages the key, with
    ``momentum=0`` to replace the row by it.

    Args:
        momentum (float): m, weight of the **old** row, 0 to 1 (MMSelfSup's ``SimpleMemory``
            has the weight of the new one). Defaults to 0.5, the official code's.
        update (str): ``'iteration'``: rows change after every step (the official code);
            ``'epoch'``: all at once when the epoch ends (the paper as worded; keeps a second
            bank). Defaults to ``'iteration'``.
        num_neighbours (int): k, neighbours of a row. Defaults to 4 (the paper).
        length (int, optional): N. Defaults to None: the hook takes it from the data set.
        backend (str): How to search, see :func:`~mmselfsup_invp.ops.top_m`. Defaults to ``'auto'``.
        feat_dim, init, seed, dtype, shard, offload: See
            :class:`~mmselfsup_invp.memory.FeatureBank`.
        init_cfg (dict, optional): Not used. Defaults to None.

    Example:
        >>> memory = PropagationMemory(feat_dim=2, num_neighbours=1, length=3)
        >>> memory.stage(torch.tensor([0]), torch.tensor([[1., 0.]]), torch.tensor([[2]]))
        >>> memory.commit()
        >>> memory.neighbours.tolist()
        [[2], [-1], [-1]]
    """

    holds_images = True

    def __init__(
        self,
        momentum: Fraction = 0.5,
        update: Literal['iteration', 'epoch'] = 'iteration',
        num_neighbours: PositiveInt = 4,
        length: NonNegativeInt | None = None,
        backend: BackendName = 'auto',
        feat_dim: Channels = 128,
        init: InitialRows = 'unit',
        seed: Seed = 0,
        dtype: RowType = 'float32',
        shard: bool = False,
        offload: bool = False,
        init_cfg: InitCfg = None,
    ) -> None:
        bank = FeatureBank(
            feat_dim,
            length or 0,
            momentum=momentum,
            delayed=update == 'epoch',
            init=init,
            seed=seed,
            dtype=dtype,
            shard=shard,
            offload=offload,
        )
        super().__init__(bank, num_neighbours, backend, init_cfg)

    def take_keys(self) -> None:
        """Let :meth:`insert` alone write the rows.

        Raises:
            ValueError: With ``update='epoch'``: the loss reads the keys of the same step.
        """
        if self.features.delayed:
            raise ValueError(
                "update = 'epoch' does not go with a momentum encoder, whose keys are written "
                "before the loss: use update='iteration'."
            )
        super().take_keys()

    @torch.no_grad()
    def insert(self, key: Tensor, sample_idx: Tensor) -> Tensor:
        """Write the keys of a momentum encoder, of every rank, before the loss, while it trains.

        Args:
            key (Tensor): Float, unit rows, shape ``(B, D)``.
            sample_idx (Tensor): int64, shape ``(B,)``.

        Returns:
            Tensor: int64, shape ``(B,)``: the rows of the images, which are ``sample_idx``.
        """
        if self.training:
            samples, keys = gather_ranks(sample_idx, key)
            self.features.update(samples, keys, self.monitor.watch(samples, keys))
        return sample_idx

    def write(self, anchor: Tensor, feature: Tensor, neighbours: Tensor) -> None:
        """Update the rows and, with :attr:`refresh`, their neighbours, int64, ``(B, k)``."""
        finite = self.monitor.watch(anchor, feature)
        if not self.rows_from_keys:
            self.features.update(anchor, feature, finite)
        if self.refresh:
            self.graph.link(anchor, neighbours, finite)

    def end_epoch(self) -> None:
        """Let the updates of the epoch take effect (``update='epoch'``)."""
        self.features.end_epoch()
