from torch import Tensor

from ...compat.host import MODELS, DataSample
from ...options import PositiveFraction, PositiveInt, checked
from ...structures import SampleBatch, sample_ids
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
    """

    def __init__(
        self, *, encoder_momentum: PositiveFraction = 0.999, key_splits: PositiveInt = 1, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.memory.rows_from_keys = True
        self.key_encoder = MomentumEncoder(self.encoder(), encoder_momentum, key_splits)

    def loss(
        self, inputs: list[Tensor], data_samples: SampleBatch | list[DataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of two views.

        Args:
            inputs (list[Tensor]): Two views, ``(B, 3, H, W)`` each: query and key.
            data_samples (SampleBatch | list[DataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: See :meth:`InvP.loss`.

        Raises:
            ValueError: If there is only one view.
        """
        query = self.embed(inputs[0])
        sample_idx = sample_ids(data_samples, query.device)
        key = self.key_encoder.embed(inputs, self.encoder())
        anchor = self.memory.insert(key, sample_idx)
        losses = self.head(query, anchor, self.memory)
        return losses | self.branch_loss(query, sample_idx, key)
