from torch import Tensor

from ...compat.host import MODELS, DataSample
from ...options import PositiveFraction, checked
from ...structures import sample_ids
from .momentum_invp import MomentumInvP


@MODELS.register_module()
@checked
class SoftInvP(MomentumInvP):
    """Soft propagation with a weak teacher.

    InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_) with a momentum encoder whose
    view is weak, as in `ReSSL <https://arxiv.org/abs/2107.09282>`_, and with soft positives. The
    first view, strongly augmented, is the query. The second, cropped and flipped only, gives the
    key, which enters the memory before the loss; its search of the memory makes the graph and the
    target of the query. Not a method of the paper.

    Args:
        encoder_momentum (float): Weight of the old parameters in the teacher. Defaults to 0.99.
        **kwargs: See :class:`MomentumInvP`; the head is a :class:`SoftInvPHead`.
    """

    def __init__(self, *, encoder_momentum: PositiveFraction = 0.99, **kwargs) -> None:
        super().__init__(encoder_momentum=encoder_momentum, **kwargs)

    def loss(
        self, inputs: list[Tensor], data_samples: list[DataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of two views.

        Args:
            inputs (list[Tensor]): Two views, ``(B, 3, H, W)`` each: query and key.
            data_samples (list[DataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: See :meth:`SoftInvPHead.forward`.

        Raises:
            ValueError: If there is only one view.
        """
        query = self.embed(inputs[0])
        sample = sample_ids(data_samples, query.device)
        key = self.key_encoder.embed(inputs, self.encoder())
        anchor = self.memory.insert(key, sample)
        return self.head(query, anchor, self.memory)
