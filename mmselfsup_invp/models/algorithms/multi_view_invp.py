import torch
import torch.nn.functional as F
from torch import Tensor

from ...compat.host import MODELS
from ...options import NonNegativeFloat, checked
from .invp import InvP


@MODELS.register_module()
@checked
class MultiViewInvP(InvP):
    """Invariance Propagation on several fresh views of each image, without a momentum encoder.

    `InvP <https://arxiv.org/abs/2010.11694>`_ compares one view with the rows of a bank, which are
    some steps old. Here all views of an image are compared with one another, and their normalised
    mean is the query: it finds the positives, receives InvP's losses and enters the bank. Each
    image is searched for once, whatever the number of views. Not a method of the paper.

    The views take the place of the instance loss, whose weight is ``head.lambda_ins``.

    Args:
        view_loss (dict, optional): Config of the loss between the views. Defaults to None:
            :class:`ViewContrastLoss` with a temperature of 0.07.
        view_weight (float): Weight of that loss. Defaults to 1.
        **kwargs: See :class:`InvP`.
    """

    temperature_option = 'model.view_loss.temperature'

    def __init__(
        self, *, view_loss: dict | None = None, view_weight: NonNegativeFloat = 1.0, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.view_loss = MODELS.build(view_loss or dict(type='mmselfsup.ViewContrastLoss'))
        self.view_weight = view_weight

    def losses(self, views: list[Tensor], sample_idx: Tensor) -> dict[str, Tensor]:
        """Add the loss between the views to the losses of :meth:`InvP.losses`."""
        embedding = torch.stack(self.embed(torch.cat(views)).chunk(len(views)))
        query = F.normalize(embedding.mean(dim=0), dim=1)
        losses = self.head(query, sample_idx, self.memory)
        losses['loss_view'] = self.view_weight * self.view_loss(embedding)
        return losses | self.branch_loss(query, sample_idx)
