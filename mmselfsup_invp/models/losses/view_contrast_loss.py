from mmengine.model import BaseModule
from torch import Tensor

from ...compat.host import MODELS
from ...ops.view_contrast import view_contrast_loss
from ...options import InitCfg, Temperature, checked


@MODELS.register_module()
@checked
class ViewContrastLoss(BaseModule):
    """Contrast between all pairs of views of an image: NT-Xent of SimCLR for two views.

    :func:`~mmselfsup_invp.ops.view_contrast.view_contrast_loss` has the formula.

    Args:
        temperature (float): t, positive. Defaults to 0.07.
        init_cfg (dict, optional): Not used. Defaults to None.
    """

    def __init__(self, temperature: Temperature = 0.07, init_cfg: InitCfg = None) -> None:
        super().__init__(init_cfg)
        self.temperature = temperature

    def forward(self, views: Tensor) -> Tensor:
        """Compute the mean loss.

        Args:
            views (Tensor): Float, unit rows, shape ``(V, B, D)``.

        Returns:
            Tensor: A scalar.
        """
        return view_contrast_loss(views, self.temperature).mean()
