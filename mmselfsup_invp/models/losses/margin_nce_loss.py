import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmselfsup.registry import MODELS
from torch import Tensor

from ...ops import full_logsumexp, margin_logit, margin_nce
from ...ops.checks import require_positive


@MODELS.register_module()
class MarginNCELoss(BaseModule):
    """InfoNCE with a margin on the positive: MarginNCE of InterCLR.

    `arXiv:2008.11702 <https://arxiv.org/abs/2008.11702>`_, section 3.4;
    :func:`~mmselfsup_invp.ops.margin_nce` has the formula.

    Args:
        temperature (float): t, positive. Defaults to 0.1 (the paper; its later code has 0.2).
        margin (float): m: above 0 asks more of the positive, below 0 less; an angle in radians
            for ``'arc'``. Defaults to 0, InfoNCE.
        kind (str): ``'cosine'`` or ``'arc'``. Defaults to ``'cosine'``.
        init_cfg (dict, optional): Not used. Defaults to None.

    Raises:
        ValueError: If an option is outside its valid values.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        margin: float = 0.0,
        kind: str = 'cosine',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_positive('temperature', temperature, '0.1 or 0.2')
        margin_logit(torch.zeros(1), margin, kind)  # Refuses what is not valid.
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
        """Compute the loss with every row of a bank, or of a queue, as negative.

        Args:
            positive (Tensor): Float, shape ``(B,)``.
            query (Tensor): Float, unit rows, shape ``(B, D)``.
            bank (Tensor): Float, unit rows, shape ``(N, D)``; no gradient flows here.

        Returns:
            Tensor: float32, shape ``(B,)``.
        """
        logit = margin_logit(positive, self.margin, self.kind) / self.temperature
        return F.softplus(full_logsumexp(query, bank, self.temperature) - logit)
