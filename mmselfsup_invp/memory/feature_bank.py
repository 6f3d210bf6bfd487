import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.host_rows import HostRows
from ..ops.search import BankRows
from ..options import Channels, Fraction, NonNegativeInt, PositiveInt, Seed, checked
from .initial import InitialRows, RowType, initial_rows, storage_dtype
from .nonfinite import finite_rows
from .state import RowState


@checked
class FeatureBank(RowState):
    """Memory bank: one feature for every image of the data set.

    The bank of `instance discrimination <https://arxiv.org/abs/1805.01978>`_ and `InvP
    <https://arxiv.org/abs/2010.11694>`_ (section 3.1). The row of a visited image becomes
    ``bank <- normalize(m * old + (1 - m) * new)``, computed in float32 and rounded once to the type
    of the bank.

    Buffers: ``bank`` (N, D) and, with ``delayed``, ``next_bank`` (N, D).

    Args:
        feat_dim (int): D, dimensions of a feature. Defaults to 128.
        length (int): N, images; 0 leaves it to :meth:`resize` or a checkpoint. Defaults to 0.
        momentum (float): m, weight of the **old** row, within 0 to 1; 0 replaces the row
            (MMSelfSup's ``SimpleMemory`` has the weight of the new one). Defaults to 0.5.
        delayed (bool): Whether updates take effect in :meth:`end_epoch` only. This keeps a second
            bank. Defaults to False.
        init (str): Initial rows, ``'unit'`` or ``'uniform'``; see :func:`initial_rows`. Defaults
            to ``'unit'``.
        seed (int): Seed of the initial rows, which are the same in all processes. Defaults to 0.
        dtype (str | torch.dtype): Type of the stored rows: ``'float32'``, ``'float16'`` or
            ``'bfloat16'``. For unit rows float16 is the more precise of the 16-bit types. Defaults
            to ``'float32'``.
        shard (bool): Whether the rows are split over the processes: a process then holds N / W of
            them, see :class:`~mmselfsup_invp.memory.sharding.ShardedRows` for what it sends.
            Defaults to False.
        offload (bool): Whether the rows stay in host memory, pinned where there is a GPU, wherever
            the module is moved: for banks that do not fit on the device. Every search copies them
            to the device in chunks, see :class:`~mmselfsup_invp.ops.host_rows.HostRows`, and
            reading and writing rows waits for the device. Defaults to False.
        chunk_rows (int): Rows in a chunk. Defaults to 2**20.

    Raises:
        ValueError: If an option is outside its valid values.

    Example:
        >>> bank = FeatureBank(feat_dim=2, length=3, momentum=0.0)
        >>> sample_idx, feature = torch.tensor([2, 0]), torch.eye(2)
        >>> bank.update(sample_idx, feature)
        >>> bank.bank[sample_idx]
        tensor([[1., 0.],
                [0., 1.]])
    """

    bank: Tensor
    next_bank: Tensor
    _moved: Tensor

    def __init__(
        self,
        feat_dim: Channels = 128,
        length: NonNegativeInt = 0,
        *,
        momentum: Fraction = 0.5,
        delayed: bool = False,
        init: InitialRows = 'unit',
        seed: Seed = 0,
        dtype: RowType | torch.dtype = 'float32',
        shard: bool = False,
        offload: bool = False,
        chunk_rows: PositiveInt = 2**20,
    ) -> None:
        super().__init__(shard)
        self.feat_dim = feat_dim
        self.momentum = momentum
        self.delayed = delayed
        self.init = init
        self.seed = seed
        self.offload = offload
        self.chunk_rows = chunk_rows
        self.register_rows('bank', torch.empty(0, feat_dim, dtype=storage_dtype(dtype)))
        if delayed:
            self.register_rows('next_bank', self.bank.clone())
        # Moves with the module, so that its device is that of the queries.
        self.register_buffer('_moved', torch.empty(0), persistent=False)
        if length:
            self.resize(length)

    @property
    def device(self) -> torch.device:
        """Device of the queries; the rows may be in host memory."""
        return self._moved.device

    def resize(self, length: int) -> None:
        """Replace all rows by ``length`` initial ones."""
        part = self.split_rows(length)
        rows = initial_rows(length, self.feat_dim, self.init, self.seed, part).to(self.bank)
        self.bank = self._pinned(rows)
        if self.delayed:
            self.next_bank = self._pinned(rows.clone())

    def local_view(self, name: str) -> Tensor | BankRows:
        """Rows of this process, which stay in host memory with ``offload``."""
        rows = getattr(self, name)
        return HostRows(rows, self.chunk_rows, self.device) if self.offload else rows

    def common_rows(self, sample_idx: Tensor) -> Tensor:
        """Rows of images that are the same on all processes, shape ``(B, D)``."""
        rows = self.view('bank')
        return rows.common(sample_idx) if isinstance(rows, BankRows) else rows[sample_idx]

    @torch.no_grad()
    def replace(self, feature: Tensor) -> None:
        """Replace the rows of all images by features, shape ``(N, D)``, and pending updates."""
        part = self.split or slice(0, len(self))
        for name in self._row_names:
            getattr(self, name).copy_(feature[part.start : part.stop])

    @torch.no_grad()
    def update(self, sample_idx: Tensor, feature: Tensor, valid: Tensor | None = None) -> None:
        """Average features into the rows of their images.

        An image that occurs more than once takes its first feature.

        Args:
            sample_idx (Tensor): int64, shape ``(B,)``, rows of the images.
            feature (Tensor): Float, shape ``(B, D)``.
            valid (Tensor, optional): bool, shape ``(B,)``: the others leave their row unchanged.
                Defaults to None: features without NaN and Inf.
        """
        valid = finite_rows(feature) if valid is None else valid
        row, source, own = self.place(sample_idx)
        written = own & valid[source]
        batch = row, feature[source].float(), written[:, None]
        row, feature, written = (part.to(self.bank.device) for part in batch)
        new = self.momentum * self.bank[row].float() + (1 - self.momentum) * feature
        rows = self.next_bank if self.delayed else self.bank
        new = F.normalize(new, dim=1).to(rows.dtype)
        rows[row] = torch.where(written, new, rows[row])

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Let the updates of the epoch take effect; without ``delayed`` they already have."""
        if self.delayed:
            self.bank.copy_(self.next_bank)

    def _pinned(self, rows: Tensor) -> Tensor:
        return rows.pin_memory() if self.offload and torch.cuda.is_available() else rows

    def _apply(self, *args, **kwargs) -> 'FeatureBank':
        """Move the module, but not the rows in host memory."""
        kept = [(name, self._buffers.pop(name)) for name in self._row_names if self.offload]
        super()._apply(*args, **kwargs)
        self._buffers.update(kept)
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Accept the checkpoint of a bank that was not delayed: no update is pending in it."""
        if self.delayed and prefix + 'bank' in state_dict:
            state_dict.setdefault(prefix + 'next_bank', state_dict[prefix + 'bank'])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
