from typing import Annotated

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...compat.host import MODELS
from ...ops import full_logsumexp, margin_nce
from ...ops.margins import Margin, margin_logit
from ...options import InitCfg, Range, Temperature, checked


@MODELS.register_module()
@checked
class MarginNCELoss(BaseModule):
    """InfoNCE with a margin on the positive: MarginNCE of InterCLR.

    `arXiv:2008.11702 <https://arxiv.org/abs/2008.11702>`_, section 3.3;
    :func:`~mmselfsup_invp.ops.margin_nce` has the formula.

    Args:
        temperature (float): t, positive. Defaults to 0.1 (the paper; its later code has 0.2).
        margin (float): m. A positive margin makes the task harder, a negative one easier; in
            radians for ``'arc'``. Defaults to 0, InfoNCE.
        kind (str): ``'cosine'`` or ``'arc'``. Defaults to ``'cosine'``.
        init_cfg (dict, optional): Not used. Defaults to None.
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        margin: Annotated[float, Range(-4, 4)] = 0.0,
        kind: Margin = 'cosine',
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        margin_logit(torch.zeros(1), margin, kind)  # An arc margin has bounds of its own.
        self.temperature = temperature
        self.margin = margin
        self.kind = kind

    def forward(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Compute the loss of each query from its cosines.

        Args:
            positive (Tensor): Float, shape ``(B,)``.
            negative (Tensor): Float, shape ``(B, K)``.

        Returns:
            Tensor: float32, shape ``(B,)``.
        """
        return margin_nce(positive, negative, self.temperature, self.margin, self.kind)

    def against_all(self, positive: Tensor, query: Tensor, bank: Tensor) -> Tensor:
        """Compute the loss with all rows of a bank or queue as negatives.

        Args:
            positive (Tensor): Float, shape ``(B,)``.
            query (Tensor): Float, unit rows, shape ``(B, D)``.
            bank (Tensor): Float, unit rows, shape ``(N, D)``; no gradient flows here.

        Returns:
            Tensor: float32, shape ``(B,)``.
        """
        logit = margin_logit(positive, self.margin, self.kind) / self.temperature
        return F.softplus(full_logsumexp(query, bank, self.temperature) - logit)
