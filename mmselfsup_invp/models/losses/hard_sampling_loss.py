from mmengine.model import BaseModule
from torch import Tensor

from ...compat.host import MODELS
from ...ops import HardSampling, Positives, invp_step
from ...ops.invp import FindPositives, InvPStep
from ...ops.losses import Background, HardPositives, InstanceBackground
from ...options import Fraction, InitCfg, PositiveInt, Temperature, checked


@MODELS.register_module()
@checked
class HardSamplingLoss(BaseModule):
    """The instance and the propagation loss of InvP on hard positives and hard negatives.

    Section 3.2 of `Unsupervised Representation Learning by Invariance Propagation
    <https://arxiv.org/abs/2010.11694>`_. The options are those of
    :class:`~mmselfsup_invp.ops.HardSampling`; :func:`~mmselfsup_invp.ops.instance_loss` and
    :func:`~mmselfsup_invp.ops.propagation_loss` give the formulas. The defaults are the paper's
    values and definitions. The paper approximates its background B(i) in practice
    (``background='topm'``). The released code is ``background='official'``,
    ``instance_background='topm'``, ``eps=1e-7`` and ``propagation='concat'`` in the head.

    Args:
        hard_neg (bool): Whether the ``num_background`` nearest rows are the background; if not, the
            whole bank is. Defaults to True.
        temperature, num_background, num_hard, hard_pos: See
            :class:`~mmselfsup_invp.ops.HardSampling`.
        background, exclusive, instance_background, eps: See
            :class:`~mmselfsup_invp.ops.HardSampling`.
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        sampling (HardSampling): The options.
    """

    def __init__(
        self,
        temperature: Temperature = 0.07,
        num_background: PositiveInt = 4096,
        num_hard: PositiveInt = 50,
        hard_pos: HardPositives = 'hard',
        hard_neg: bool = True,
        background: Background = 'exact',
        exclusive: bool = True,
        instance_background: InstanceBackground = 'exact',
        eps: Fraction = 0.0,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.sampling = HardSampling(
            temperature=temperature,
            num_background=num_background if hard_neg else None,
            num_hard=num_hard,
            hard_pos=hard_pos,
            background=background,
            exclusive=exclusive,
            instance_background=instance_background,
            eps=eps,
        )

    def forward(
        self,
        query: Tensor,
        bank: Tensor,
        anchor: Tensor,
        positive: Positives | FindPositives | None,
        **search,
    ) -> InvPStep:
        """Search the bank and compute both losses; see :func:`~mmselfsup_invp.ops.invp_step`.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            bank (Tensor): Float, unit rows, shape ``(N, D)``.
            anchor (Tensor): int64, shape ``(B,)``, the bank row of each query's image.
            positive (Positives | Callable, optional): ``(B, L)`` positives, or a function that
                finds them. None leaves out the propagation loss.
            **search: ``num_neighbours``, ``min_width`` and ``backend``.

        Returns:
            InvPStep: Mean losses, the new neighbours and the positives.
        """
        return invp_step(query, bank, anchor, positive, self.sampling, **search)
