from torch import Tensor

from ...compat.host import MODELS
from ...options import PositiveFraction, checked
from .interclr import InterCLR
from .momentum_encoder import MomentumEncoder


@MODELS.register_module()
@checked
class MomentumInterCLR(InterCLR):
    """InterCLR on a momentum encoder and a queue.

    The variant of the later version of `InterCLR <https://arxiv.org/abs/2008.11702>`_, which
    MMSelfSup 0.x had as ``InterCLRMoCo``. The first view gives the query, the second, by the
    momentum encoder, the key. The intra branch is MoCo's: the key against a queue of keys. The bank
    of the inter branch takes the key.

    Args:
        queue (dict): Config of the queue, :class:`KeyQueue`.
        encoder_momentum (float): m of :class:`MomentumEncoder`. Defaults to 0.999.
        **kwargs: See :class:`InterCLR`; the head is :class:`QueueMarginHead`.
    """

    def __init__(
        self, *, queue: dict, encoder_momentum: PositiveFraction = 0.999, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.queue = MODELS.build(queue)
        self.key_encoder = MomentumEncoder(self.encoder(), encoder_momentum)

    def losses(self, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
        """See :meth:`InterCLR.losses`; the keys enter the queue and the bank."""
        query = self.embed(views[0])
        key = self.key_encoder.embed(views, self.encoder())
        losses = self.branch(query, sample_idx, key=key, weight=1 - self.intra_weight)
        intra = self.head(query, key, self.queue.bank)
        self.queue.stage(sample_idx, key)
        return dict(loss_intra=self._intra_share() * intra, **losses)
