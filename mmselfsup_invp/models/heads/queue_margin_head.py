from mmengine.model import BaseModule
from torch import Tensor

from ...compat.host import MODELS
from ...options import InitCfg, checked


@MODELS.register_module()
@checked
class QueueMarginHead(BaseModule):
    """Intra-image loss of InterCLR on the queue of MoCo.

    The loss of `MoCo <https://arxiv.org/abs/1911.05722>`_ with the margin of `InterCLR
    <https://arxiv.org/abs/2008.11702>`_, section 3.3.

    Args:
        loss (dict, optional): Config of the loss. Defaults to None: :class:`MarginNCELoss` with
            temperature 0.2 and no margin (MMSelfSup 0.x).
        init_cfg (dict, optional): Not used. Defaults to None.
    """

    def __init__(self, loss: dict | None = None, init_cfg: InitCfg = None) -> None:
        super().__init__(init_cfg)
        self.loss = MODELS.build(loss or dict(type='mmselfsup.MarginNCELoss', temperature=0.2))

    def forward(self, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            query (Tensor): Float32, unit rows, shape ``(B, D)``.
            key (Tensor): Float32, unit rows, shape ``(B, D)``: the same images through the
                momentum encoder.
            queue (Tensor): Float, unit rows, shape ``(L, D)``: keys of other images.

        Returns:
            Tensor: A scalar.
        """
        positive = (query * key).sum(dim=1)
        return self.loss.against_all(positive, query, queue).mean()
