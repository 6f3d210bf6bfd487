from mmselfsup.registry import MODELS
from mmselfsup.structures import SelfSupDataSample
from torch import Tensor

from ...structures import sample_ids
from .invp import InvP
from .momentum_encoder import MomentumEncoder


@MODELS.register_module()
class MomentumInvP(InvP):
    """Invariance Propagation on the keys of a momentum encoder.

    The `InvP <https://arxiv.org/abs/2010.11694>`_ paper names a momentum queue as an alternative
    to its bank (section 3.1); the encoder is that of `MoCo <https://arxiv.org/abs/1911.05722>`_.
    The first view is the query. The second, through the slow encoder, is the key: it enters the
    memory before the loss, so that the instance loss compares two views of the same step.

    With :class:`PropagationQueue` as memory the size does not grow with the data set; with
    :class:`PropagationMemory` every image keeps a row, of keys instead of queries.

    Args:
        encoder_momentum (float): Weight of the old parameters in the slow encoder, below 1:
            ``key <- m * key + (1 - m) * query``. Defaults to 0.999.
        key_splits (int): Parts of a batch of keys with statistics of their own: the split batch
            norm of one device. Defaults to 1.
        **kwargs: See :class:`InvP`.
    """

    def __init__(self, *, encoder_momentum: float = 0.999, key_splits: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.key_encoder = MomentumEncoder(self.encoder(), encoder_momentum, key_splits)

    def loss(
        self, inputs: list[Tensor], data_samples: list[SelfSupDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of two views.

        Args:
            inputs (list[Tensor]): Two views, ``(B, 3, H, W)`` each: query and key.
            data_samples (list[SelfSupDataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: See :meth:`InvPHead.forward`.

        Raises:
            ValueError: If there is only one view.
        """
        query = self.embed(inputs[0])
        sample = sample_ids(data_samples, query.device)
        key = self.key_encoder.embed(inputs, self.encoder())
        anchor = self.memory.insert(key, sample)
        losses = self.head(query, anchor, self.memory)
        if self.branch is not None:
            losses |= self.branch(query, sample, key=key, weight=self.branch_weight)
        return losses
