import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmselfsup.registry import MODELS
from mmselfsup.structures import SelfSupDataSample
from mmselfsup.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn

from .invp import InvP, sample_ids


@MODELS.register_module()
class MomentumInvP(InvP):
    """Invariance Propagation on the keys of a momentum encoder.

    The `InvP <https://arxiv.org/abs/2010.11694>`_ paper names a momentum queue as an alternative
    to its bank (section 3.1); the encoder is that of `MoCo <https://arxiv.org/abs/1911.05722>`_.
    The first view is the query. The second, through the slow encoder, is the key: it enters the
    memory before the loss, so that the instance loss compares two views of the same step.

    With :class:`PropagationQueue` as memory the size does not grow with the data set; with
    :class:`PropagationMemory` every image keeps a row, of keys instead of queries.

    Args:
        encoder_momentum (float): Weight of the old parameters in the slow encoder, below 1:
            ``key <- m * key + (1 - m) * query``. Defaults to 0.999.
        **kwargs: See :class:`InvP`.
    """

    def __init__(self, *, encoder_momentum: float = 0.999, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 < encoder_momentum < 1:
            raise ValueError(f'encoder_momentum = {encoder_momentum} must be between 0 and 1.')
        self.key_encoder = ExponentialMovingAverage(self._encoder(), 1 - encoder_momentum)

    def _encoder(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.neck)

    def loss(
        self, inputs: list[Tensor], data_samples: list[SelfSupDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch of two views.

        Args:
            inputs (list[Tensor]): Two views, ``(B, 3, H, W)`` each: query and key.
            data_samples (list[SelfSupDataSample]): With ``sample_idx``.

        Returns:
            dict[str, Tensor]: See :meth:`InvPHead.forward`.

        Raises:
            ValueError: If there is only one view.
        """
        if len(inputs) < 2:
            raise ValueError(
                'MomentumInvP needs two views of an image, the pipeline gives one: '
                "dict(type='AugmentedViews', num_views=2, ...)."
            )
        query = self.embed(inputs[0])
        anchor = self.memory.insert(self.embed_key(inputs[1]), sample_ids(data_samples))
        return self.head(query, anchor, self.memory)

    @torch.no_grad()
    def embed_key(self, image: Tensor) -> Tensor:
        """Unit embedding by the slow encoder, updated first; float32, shape ``(B, D)``.

        The batch is shuffled over the processes, lest batch statistics tell query and key
        belong together (MoCo, section 3.3).
        """
        self.key_encoder.update_parameters(self._encoder())
        image, order = batch_shuffle_ddp(image)
        key = F.normalize(self.key_encoder(image)[0].float(), dim=1)
        return batch_unshuffle_ddp(key, order)
