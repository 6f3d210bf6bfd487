import copy

import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor, nn

from ...ops.checks import require_range
from ...ops.collectives import gather, rank, world_size


class MomentumEncoder(nn.Module):
    """Exponential moving average of an encoder, which embeds the keys of `MoCo
    <https://arxiv.org/abs/1911.05722>`_.

    The first update copies the encoder, every later one averages its parameters:
    ``average <- m * average + (1 - m) * encoder``. Buffers are copied in each. The updates of
    MMEngine and of ``torch.optim.swa_utils`` compare their step count, a tensor, in every step,
    which waits for the device; this one reads it once per process.

    Args:
        encoder (nn.Module): Backbone and neck, copied. Its first output is the embedding.
        momentum (float): m, between 0 and 1.
        splits (int): Parts of a batch that are embedded one after the other, each with batch
            statistics of its own. On one device this takes the place of the shuffle over the
            processes. Defaults to 1.

    Raises:
        ValueError: If ``momentum`` or ``splits`` is outside its range.
    """

    def __init__(self, encoder: nn.Module, momentum: float, splits: int = 1) -> None:
        super().__init__()
        require_range('key_splits', splits, 1, 2**31, 'a batch has at least one part')
        self.splits = splits
        if not 0 < momentum < 1:
            raise ValueError(f'encoder_momentum = {momentum} must be between 0 and 1.')
        self.momentum = momentum
        self.module = copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer('steps', torch.tensor(0))
        self._initialised = False  # Whether this process knows that the copy was made.

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Output of the averaged encoder."""
        return self.module(image)

    @torch.no_grad()
    def update_parameters(self, encoder: nn.Module) -> None:
        """Average the encoder that was copied, as it is now, into the momentum encoder."""
        weight = 1 - self.momentum if self._initialised or self.steps > 0 else 1.0
        self._initialised = True
        parameters = list(self.module.parameters()), list(encoder.parameters())
        torch._foreach_lerp_(*parameters, weight)
        for old, new in zip(self.module.buffers(), encoder.buffers(), strict=True):
            old.copy_(new)
        self.steps += 1

    @torch.no_grad()
    def embed(self, views: list[Tensor], encoder: nn.Module) -> Tensor:
        """Update the momentum encoder, then embed the second view of the images.

        The batch is shuffled over the processes, so that batch statistics do not reveal which
        query and key belong together (MoCo, section 3.3).

        Args:
            views (list[Tensor]): Two views, ``(B, 3, H, W)`` each: query and key.
            encoder (nn.Module): The encoder that was copied, as it is now.

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
        if self.training:
            self.update_parameters(encoder)
        image = views[1]
        if world_size() == self.splits == 1:  # No order changes the statistics.
            return self._embed(image)
        order = torch.randperm(world_size() * len(image), device=image.device)
        dist.broadcast(order)
        key = self._embed(gather(image)[_own(order)])
        return gather(key)[_own(order.argsort())]

    def _embed(self, image: Tensor) -> Tensor:
        # A last, small batch has fewer parts: one image alone may have no variance.
        splits = max(min(self.splits, len(image) // 2), 1)
        parts = [self(part)[0].float() for part in image.chunk(splits)]
        return F.normalize(torch.cat(parts), dim=1)


def _own(order: Tensor) -> Tensor:
    """The part of this process."""
    return order.chunk(world_size())[rank()]
