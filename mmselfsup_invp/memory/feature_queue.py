import torch
from torch import Tensor

from ..options import Channels, NonNegativeInt, Seed, checked
from .initial import InitialRows, RowType, initial_rows, storage_dtype
from .nonfinite import finite_rows
from .state import RowState


@checked
class FeatureQueue(RowState):
    """Queue of the latest features, each in place of the oldest.

    The queue of `MoCo <https://arxiv.org/abs/1911.05722>`_ (section 3.2), a ring buffer.

    Buffers: ``bank`` (L, D), the slots; ``pointer``, int64, the slot to write next; ``sample_idx``
    (L,), int64, the image in each slot, -1 where it is unknown (not in ``state_dict``).

    Args:
        feat_dim (int): D, dimensions of a feature. Defaults to 128.
        length (int): L, slots. Defaults to 65536, as in MoCo.
        init (str): Initial rows, ``'unit'`` or ``'uniform'``; see :func:`initial_rows`. Defaults
            to ``'unit'``.
        seed (int): Seed of the initial rows, which are the same in all processes. Defaults to 0.
        dtype (str | torch.dtype): Type of the stored rows: ``'float32'``, ``'float16'`` or
            ``'bfloat16'``. Defaults to ``'float32'``.

    Raises:
        ValueError: If an option is outside its valid values.

    Example:
        >>> queue = FeatureQueue(feat_dim=2, length=3)
        >>> queue.push(torch.eye(2)), queue.push(torch.eye(2))
        (tensor([0, 1]), tensor([2, 0]))
        >>> queue.bank
        tensor([[0., 1.],
                [0., 1.],
                [1., 0.]])
    """

    bank: Tensor
    pointer: Tensor
    sample_idx: Tensor

    def __init__(
        self,
        feat_dim: Channels = 128,
        length: NonNegativeInt = 65536,
        *,
        init: InitialRows = 'unit',
        seed: Seed = 0,
        dtype: RowType | torch.dtype = 'float32',
    ) -> None:
        super().__init__()
        self.feat_dim = feat_dim
        self.init = init
        self.seed = seed
        self.register_rows('bank', torch.empty(0, feat_dim, dtype=storage_dtype(dtype)))
        self.register_rows('sample_idx', torch.empty(0, dtype=torch.int64), persistent=False)
        self.register_buffer('pointer', torch.tensor(0))
        self.resize(length)

    def resize(self, length: int) -> None:
        """Replace all slots by ``length`` initial ones."""
        self.bank = initial_rows(length, self.feat_dim, self.init, self.seed).to(self.bank)
        self.sample_idx = self.sample_idx.new_full((length,), -1)
        self.pointer.zero_()

    @torch.no_grad()
    def push(
        self, feature: Tensor, sample_idx: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Write features in place of the oldest.

        Args:
            feature (Tensor): Float, shape ``(B, D)``, B at most L.
            sample_idx (Tensor, optional): int64, shape ``(B,)``, ids of the images. Defaults to
                None, unknown.
            valid (Tensor, optional): bool, shape ``(B,)``: the slots of the others keep the old
                feature. Defaults to None: features without NaN and Inf.

        Returns:
            Tensor: int64, shape ``(B,)``, the slots written.

        Raises:
            ValueError: If the batch is longer than the queue.
        """
        if len(feature) > len(self):
            raise ValueError(
                f'A batch of {len(feature)} (all processes) does not fit into a queue of '
                f'{len(self)}: lower train_dataloader.batch_size or raise the length of the queue.'
            )
        valid = finite_rows(feature) if valid is None else valid
        slot = (self.pointer + torch.arange(len(feature), device=feature.device)) % len(self)
        feature = feature.to(self.bank.dtype)
        self.bank[slot] = torch.where(valid[:, None], feature, self.bank[slot])
        self.sample_idx[slot] = -1 if sample_idx is None else sample_idx
        self.pointer.copy_((self.pointer + len(feature)) % len(self))
        return slot
