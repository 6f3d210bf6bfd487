from ...compat.host import MODELS
from ...options import PositiveFraction, checked
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

    temperature_option = 'model.head.temperature'

    def __init__(self, *, encoder_momentum: PositiveFraction = 0.99, **kwargs) -> None:
        super().__init__(encoder_momentum=encoder_momentum, **kwargs)
