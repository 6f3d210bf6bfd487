from collections.abc import Sequence
from typing import Annotated

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...compat.host import MODELS
from ...options import InitCfg, Range, checked

# Output channels, kernel, stride, padding, and whether max-pooling follows.
LAYERS = (
    (96, 11, 4, 2, True),
    (256, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
POOLED = len(LAYERS)

INIT = [
    dict(type='Kaiming', layer='Conv2d', mode='fan_out', distribution='normal'),
    dict(type='Constant', layer='BatchNorm2d', val=1),
]


@MODELS.register_module()
@checked
class AlexNetBN(BaseModule):
    """The convolutions of AlexNet with batch normalisation, as self-supervised methods use it.

    The network of DeepCluster and `SeLa <https://arxiv.org/abs/1911.05371>`_ ("big", without
    Sobel filters): the channels of the original on one device, no local response normalisation.
    The fully connected layers are those of :class:`FullyConnectedNeck`.

    Args:
        out_indices (Sequence[int]): What to give, ascending: 0 to 4 after the ReLU of that
            convolution, 5 after the last pooling, 6 x 6 for images of 224 pixels.
            Defaults to (5,).
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to the official
            one: normal weights by the fan-out, zero biases.

    Example:
        >>> AlexNetBN()(torch.rand(2, 3, 224, 224))[0].shape
        torch.Size([2, 256, 6, 6])
    """

    def __init__(
        self,
        out_indices: Sequence[Annotated[int, Range(0, POOLED)]] = (POOLED,),
        init_cfg: InitCfg = INIT,
    ) -> None:
        super().__init__(init_cfg)
        self.out_indices = tuple(out_indices)
        self.layers = nn.ModuleList()
        channels = 3
        for width, kernel, stride, padding, _ in LAYERS:
            layer = nn.Sequential(
                nn.Conv2d(channels, width, kernel, stride, padding),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            self.layers.append(layer)
            channels = width
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of ``image``, ``(B, 3, H, W)``, one for each of ``out_indices``."""
        found, feature = {}, image
        for index, (layer, (*_, pooled)) in enumerate(zip(self.layers, LAYERS, strict=True)):
            feature = found[index] = layer(feature)
            if pooled:
                feature = self.pool(feature)
        found[POOLED] = feature
        return tuple(found[index] for index in self.out_indices)
