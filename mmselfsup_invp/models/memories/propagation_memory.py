import torch
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops.checks import require_choice
from .feature_memory import require_momentum
from .graph_memory import GraphMemory
from .sized_memory import first_of_equal, gather_ranks


@MODELS.register_module()
class PropagationMemory(GraphMemory):
    """The memory bank of InvP: one feature for every image of the data set.

    Section 3.1 of `InvP <https://arxiv.org/abs/2010.11694>`_. A visited image's row becomes
    ``bank <- normalize(m * old + (1 - m) * new)``, and its neighbours those of the new feature.
    Row numbers are the samples' ``sample_idx``. A sample that stands twice in a batch (samplers
    pad so) is written once, with its first feature.

    The algorithm calls :meth:`stage` in its forward pass and the hook :meth:`commit` after the
    optimiser step, since backward still reads the rows.

    Args:
        momentum (float): m, weight of the **old** row, 0 to 1 (MMSelfSup's ``SimpleMemory``
            counts the other way). Defaults to 0.5, the official code's.
        update (str): ``'iteration'``: rows change as soon as their images were seen (the
            official code); ``'epoch'``: all at once when the epoch ends (the paper as worded;
            holds a second bank). Defaults to ``'iteration'``.
        **kwargs: See :class:`GraphMemory`: feat_dim, num_neighbours, length,
            backend, init, seed, dtype.

    Example:
        >>> memory = PropagationMemory(feat_dim=2, num_neighbours=1, length=3)
        >>> memory.stage(torch.tensor([0]), torch.tensor([[1., 0.]]), torch.tensor([[2]]))
        >>> memory.commit()
        >>> memory.neighbours.tolist()
        [[2], [-1], [-1]]
    """

    holds_images = True

    def __init__(self, momentum: float = 0.5, update: str = 'iteration', **kwargs) -> None:
        require_choice('update', update, ('iteration', 'epoch'))
        require_momentum(momentum)
        self.momentum = momentum
        self.update = update
        self.staged: tuple[Tensor, Tensor, Tensor] | None = None
        self.keyed = False  # Whether insert has given the images of this step their rows.
        super().__init__(**kwargs)
        if update == 'epoch':
            self.row_buffers += ('next_bank',)
            self.register_buffer('next_bank', self.bank.clone())

    def resize(self, length: int) -> None:
        """Give the memory ``length`` new rows."""
        super().resize(length)
        if 'next_bank' in self._buffers:
            self.next_bank = self.bank.clone()

    def stage(self, sample: Tensor, feature: Tensor, neighbours: Tensor) -> None:
        """Keep a batch until :meth:`commit`.

        Args:
            sample (Tensor): int64, shape ``(B,)``, ``sample_idx`` of the images.
            feature (Tensor): Float, unit rows, shape ``(B, D)``.
            neighbours (Tensor): int64, shape ``(B, k)``, see :meth:`nearest_others`.

        Raises:
            RuntimeError: If the batch before was never committed.
        """
        if self.staged is not None:
            raise RuntimeError(
                'The bank was not updated after the last iteration. Add '
                "custom_hooks = [dict(type='PropagationMemoryHook')] to the config."
            )
        self.staged = (sample, feature.detach(), neighbours)

    @torch.no_grad()
    def commit(self, refresh: bool = True) -> None:
        """Write the staged batch, of every rank, into the bank and the graph.

        Rows that :meth:`insert` wrote in this step keep its keys; only their neighbours change.

        Args:
            refresh (bool): Whether the rows of the graph are refreshed too. Defaults to True.
        """
        if self.staged is None:
            return
        sample, feature, neighbours = gather_ranks(*self.staged)
        self.staged = None
        first = first_of_equal(sample)
        take = self.keep_finite if self.keyed else self.write
        finite = take(sample, feature[first])
        self.keyed = False
        if refresh:
            kept = torch.where(finite[:, None], neighbours[first], self.neighbours[sample])
            self.link(sample, kept)

    def write(self, sample: Tensor, feature: Tensor) -> Tensor:
        """Average features into their rows; features that are not finite change nothing.

        Args:
            sample (Tensor): int64, shape ``(B,)``; equal entries must have equal features.
            feature (Tensor): Float, shape ``(B, D)``.

        Returns:
            Tensor: bool, shape ``(B,)``, which features were finite.
        """
        bank = self.next_bank if self.update == 'epoch' else None
        return self._average(sample, feature, self.momentum, bank)

    @torch.no_grad()
    def insert(self, key: Tensor, sample: Tensor) -> Tensor:
        """Write keys of a momentum encoder before the loss; their rows are the anchors.

        Args:
            key (Tensor): Float, unit rows, shape ``(B, D)``.
            sample (Tensor): int64, shape ``(B,)``.

        Returns:
            Tensor: int64, shape ``(B,)``: the rows of the images.
        """
        samples, keys = gather_ranks(sample, key)
        self.write(samples, keys[first_of_equal(samples)])
        self.keyed = True
        return sample

    def end_epoch(self) -> None:
        """Let the rows gathered during the epoch take effect (``update='epoch'``)."""
        if self.update == 'epoch':
            self.bank.copy_(self.next_bank)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Go on from the bank where the checkpoint was made with ``update='iteration'``."""
        if self.update == 'epoch' and prefix + 'bank' in state_dict:
            state_dict.setdefault(prefix + 'next_bank', state_dict[prefix + 'bank'])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
