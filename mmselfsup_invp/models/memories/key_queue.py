from torch import Tensor

from ...compat.host import MODELS
from ...memory import FeatureQueue
from ...memory.initial import InitialRows, RowType
from ...options import Channels, InitCfg, PositiveInt, Seed, checked
from .base import Memory


@MODELS.register_module()
@checked
class KeyQueue(Memory):
    """Queue of the latest keys of a momentum encoder: the negatives of MoCo.

    `Momentum Contrast <https://arxiv.org/abs/1911.05722>`_, section 3.2. :meth:`commit` writes the
    staged keys in place of the oldest.

    Args:
        length (int): L, slots; lowered to the size of the data set. Defaults to 65536, as in MoCo.
        feat_dim, init, seed, dtype: See :class:`~mmselfsup_invp.memory.FeatureQueue`.
        init_cfg (dict, optional): Not used. Defaults to None.

    Example:
        >>> queue = KeyQueue(feat_dim=2, length=3)
        >>> queue.stage(torch.tensor([7, 4]), torch.eye(2))
        >>> queue.commit()
        >>> queue.bank[:2]
        tensor([[1., 0.],
                [0., 1.]])
    """

    hook = "clusters=dict(type='OnlineClusterHook', ...)"

    def __init__(
        self,
        length: PositiveInt = 65536,
        feat_dim: Channels = 128,
        init: InitialRows = 'unit',
        seed: Seed = 0,
        dtype: RowType = 'float32',
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.features = FeatureQueue(feat_dim, length, init=init, seed=seed, dtype=dtype)

    @property
    def bank(self) -> Tensor:
        """Keys, shape ``(L, D)``."""
        return self.features.bank

    @property
    def pointer(self) -> Tensor:
        """The slot to write next, int64."""
        return self.features.pointer

    def write(self, sample_idx: Tensor, key: Tensor) -> None:
        """Write the keys of a batch in place of the oldest."""
        self.features.push(key, sample_idx, self.monitor.watch(sample_idx, key))
