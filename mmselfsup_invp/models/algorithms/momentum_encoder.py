import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmselfsup.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn

from ...ops.checks import require_range


class MomentumEncoder(ExponentialMovingAverage):
    """The slow encoder of `MoCo <https://arxiv.org/abs/1911.05722>`_, which gives the keys.

    Args:
        encoder (nn.Module): Backbone and neck, copied.
        momentum (float): Weight of the old parameters, between 0 and 1:
            ``slow <- m * slow + (1 - m) * encoder``.
        splits (int): Parts of a batch that are embedded one after the other, each normalised by
            its own statistics, so that on one device query and key do not share them. Defaults to
            1.

    Raises:
        ValueError: If ``momentum`` or ``splits`` is outside its range.
    """

    def __init__(self, encoder: nn.Module, momentum: float, splits: int = 1) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f'encoder_momentum = {momentum} must be between 0 and 1.')
        require_range('key_splits', splits, 1, 2**31, 'a batch has a part')
        super().__init__(encoder, 1 - momentum)
        self.splits = splits
        self._follows = False  # Whether the first step, which copies, is over.

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Follow the encoder by one step, as MMEngine does, which looks at ``steps`` each time.

        A look at a value makes the device wait; here it is done in the first step of a process
        alone. All parameters move in one call.
        """
        if not self._follows:
            super().update_parameters(model)
            self._follows = True
            return
        slow, fast = self.module, model
        torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), self.momentum)
        for old, new in zip(slow.buffers(), fast.buffers(), strict=True):
            old.copy_(new)
        self.steps += 1

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
        parts = [self(part)[0].float() for part in image.chunk(self.splits)]
        key = F.normalize(torch.cat(parts), dim=1)
        return batch_unshuffle_ddp(key, order)
