from torch import Tensor

from ...compat.host import MODELS
from ...options import PositiveFraction, PositiveInt, checked
from .invp import InvP
from .momentum_encoder import MomentumEncoder


@MODELS.register_module()
@checked
class MomentumInvP(InvP):
    """Invariance Propagation on the keys of a momentum encoder.

    The `InvP <https://arxiv.org/abs/2010.11694>`_ paper names a momentum queue as an alternative
    to its bank (section 3.1); the encoder is that of `MoCo <https://arxiv.org/abs/1911.05722>`_.
    The first view gives the query. The second gives the key, by the momentum encoder. The key is
    inserted into the memory before the loss, so that the instance loss compares two views of the
    same step.

    With :class:`PropagationQueue` as memory the size does not grow with the data set; with
    :class:`PropagationMemory` every image has a row, an average of its keys.

    Args:
        encoder_momentum (float): m of :class:`MomentumEncoder`. Defaults to 0.999.
        key_splits (int): Parts of a batch of keys with batch statistics of their own, see
            :class:`MomentumEncoder`. Defaults to 1.
        **kwargs: See :class:`InvP`.

    Raises:
        ValueError: If the memory is written at the end of an epoch only.
    """

    inserts_keys = True

    def __init__(
        self, *, encoder_momentum: PositiveFraction = 0.999, key_splits: PositiveInt = 1, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.memory.take_keys()
        self.key_encoder = MomentumEncoder(self.encoder(), encoder_momentum, key_splits)

    def losses(self, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
        """Insert the keys into the memory and compute the losses of :meth:`InvP.losses`."""
        query = self.embed(views[0])
        key = self.key_encoder.embed(views, self.encoder())
        anchor = self.memory.insert(key, sample_idx)
        losses = self.head(query, anchor, self.memory)
        return losses | self.branch_loss(query, sample_idx, key)
