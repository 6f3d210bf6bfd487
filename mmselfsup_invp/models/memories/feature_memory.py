import logging

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from ...ops.checks import require_choice, require_range
from .sized_memory import SizedMemory


def unit_rows(length: int, dim: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors: the paper's initial bank."""
    return F.normalize(torch.randn(length, dim, generator=generator), dim=1)


def uniform_rows(length: int, dim: int, generator: torch.Generator) -> Tensor:
    """Entries from U(-a, a) with a = sqrt(3 / dim), rows of expected squared norm 1: the code's."""
    return (torch.rand(length, dim, generator=generator) * 2 - 1) * (3 / dim) ** 0.5


def require_momentum(momentum: float) -> None:
    """Raise ``ValueError`` unless it can weigh the old row of a bank."""
    if not 0 <= momentum <= 1:
        raise ValueError(
            f'momentum = {momentum} must be within 0 to 1; it weighs the old row of the bank.'
        )


INITIAL_ROWS = {'unit': unit_rows, 'uniform': uniform_rows}
DTYPES = {name: getattr(torch, name) for name in ('float32', 'float16', 'bfloat16')}


class FeatureMemory(SizedMemory):
    """Rows of features, which no NaN enters.

    ``bank`` (N, D) holds one unit feature a row; see :class:`SizedMemory` for its size. Rows are
    stored as ``dtype`` and reckoned with in float32: a row that is written is rounded once.

    A checkpoint whose bank has another type is converted, with a warning: rows lose no more by
    that than by being written, but the run is not to the bit the one that would have gone on.

    Args:
        feat_dim (int): D, dimensions of the embedding. Defaults to 128.
        init (str): Initial rows: ``'unit'`` random unit vectors (the InvP paper) or
            ``'uniform'`` entries from U(-sqrt(3/D), sqrt(3/D)), not normalised (its official
            code). Defaults to ``'unit'``.
        seed (int): Of the initial rows, so that every rank starts alike. Defaults to 0.
        dtype (str): What the rows are stored as: ``'float32'``, ``'float16'`` or ``'bfloat16'``.
            Unit rows need float16's digits rather than bfloat16's range. Defaults to
            ``'float32'``.
        init_cfg (dict, optional): Not used. Defaults to None.
    """

    row_buffers = ('bank',)

    def __init__(
        self,
        feat_dim: int = 128,
        init: str = 'unit',
        seed: int = 0,
        dtype: str = 'float32',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_choice('init', init, INITIAL_ROWS)
        require_choice('dtype', dtype, DTYPES)
        require_range('feat_dim', feat_dim, 1, 2**20, 'an embedding needs a dimension')
        self.feat_dim = feat_dim
        self.init = init
        self.seed = seed
        self.register_buffer('bank', torch.empty(0, feat_dim, dtype=DTYPES[dtype]))

    def resize(self, length: int) -> None:
        """Give the memory ``length`` new rows."""
        generator = torch.Generator().manual_seed(self.seed)
        self.bank = INITIAL_ROWS[self.init](length, self.feat_dim, generator).to(self.bank)

    def _average(
        self, sample: Tensor, feature: Tensor, momentum: float, bank: Tensor | None = None
    ) -> Tensor:
        """Average features into their rows; features that are not finite change nothing.

        ``new <- normalize(m * old + (1 - m) * feature)``, written to ``bank`` if given, else in
        place. Equal samples must have equal features. Returns which are finite, bool, ``(B,)``.
        """
        bank = self.bank if bank is None else bank
        finite = self.keep_finite(sample, feature)
        old = self.bank[sample].float()
        new = F.normalize(momentum * old + (1 - momentum) * feature.float(), dim=1)
        bank[sample] = torch.where(finite[:, None], new.to(bank.dtype), bank[sample])
        return finite

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Say so if the rows of a checkpoint are stored as another type."""
        saved = state_dict.get(prefix + 'bank')
        if saved is not None and saved.dtype != self.bank.dtype:
            print_log(
                f'{prefix}bank is {saved.dtype} in the checkpoint and is converted to '
                f'{self.bank.dtype}, the dtype of {type(self).__name__} in the config.',
                logger='current',
                level=logging.WARNING,
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
