import torch
from mmengine.model import BaseModule
from torch import Tensor

from ... import ops
from ...compat.host import MODELS
from ...options import InitCfg, PositiveInt, checked


@MODELS.register_module()
@checked
class BankMarginHead(BaseModule):
    """Intra-image loss of InterCLR on a memory bank (version 1 of the paper).

    `InterCLR <https://arxiv.org/abs/2008.11702>`_ on the bank of `NPID
    <https://arxiv.org/abs/1805.01978>`_: the positive of an image is its own row, the embedding
    of an earlier view; the negatives are drawn uniformly from the other rows, with replacement.

    Args:
        loss (dict, optional): Config of the loss. Defaults to None: :class:`MarginNCELoss` with
            temperature 0.1 and no margin (the paper; 0.35 is the best margin of its study).
        num_negatives (int): K. Defaults to 16384 (the paper; 4096 in its studies).
        init_cfg (dict, optional): Not used. Defaults to None.
    """

    def __init__(
        self,
        loss: dict | None = None,
        num_negatives: PositiveInt = 16384,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.loss = MODELS.build(loss or dict(type='mmselfsup.MarginNCELoss'))
        self.num_negatives = num_negatives

    def forward(self, query: Tensor, anchor: Tensor, bank: Tensor) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            anchor (Tensor): int64, shape ``(B,)``, the rows of these images.
            bank (Tensor): Float, unit rows, shape ``(N, D)``, N at least 2.

        Returns:
            Tensor: A scalar.
        """
        negative = ops.sample_uniform_negatives(anchor, len(bank), self.num_negatives)
        index = torch.cat([anchor[:, None], negative], dim=1)
        similarity = ops.bank_similarity(query, bank, index)
        return self.loss(similarity[:, 0], similarity[:, 1:]).mean()
