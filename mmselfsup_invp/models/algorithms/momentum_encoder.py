import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmselfsup.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn


class MomentumEncoder(ExponentialMovingAverage):
    """The slow encoder of `MoCo <https://arxiv.org/abs/1911.05722>`_, which gives the keys.

    Args:
        encoder (nn.Module): Backbone and neck, copied.
        momentum (float): Weight of the old parameters, between 0 and 1:
            ``slow <- m * slow + (1 - m) * encoder``.

    Raises:
        ValueError: If ``momentum`` is outside its range.
    """

    def __init__(self, encoder: nn.Module, momentum: float) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f'encoder_momentum = {momentum} must be between 0 and 1.')
        super().__init__(encoder, 1 - momentum)

    @torch.no_grad()
    def embed(self, views: list[Tensor], encoder: nn.Module) -> Tensor:
        """Follow the encoder by one step, then embed the second view of the images.

        The batch is shuffled over the processes, lest batch statistics tell query and key belong
        together (MoCo, section 3.3).

        Args:
            views (list[Tensor]): Two views, ``(B, 3, H, W)`` each: query and key.
            encoder (nn.Module): What was copied, as it is now.

        Returns:
            Tensor: Unit embeddings, float32, shape ``(B, D)``.

        Raises:
            ValueError: If there is only one view.
        """
        if len(views) < 2:
            raise ValueError(
                'A momentum encoder needs two views of an image, the pipeline gives one: '
                "dict(type='AugmentedViews', num_views=2, ...)."
            )
        self.update_parameters(encoder)
        image, order = batch_shuffle_ddp(views[1])
        key = F.normalize(self(image)[0].float(), dim=1)
        return batch_unshuffle_ddp(key, order)
