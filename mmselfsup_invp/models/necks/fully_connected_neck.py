from collections.abc import Sequence
from typing import Annotated

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...compat.host import MODELS
from ...options import Channels, Fraction, InitCfg, Range, checked


@MODELS.register_module()
@checked
class FullyConnectedNeck(BaseModule):
    """Pool the last feature map and pass it through hidden layers, if any.

    What stands between convolutions and classifier in `SeLa <https://arxiv.org/abs/1911.05371>`_:
    global average pooling alone in ResNets; in AlexNet two times dropout, linear layer and ReLU
    on the map as it is.

    Args:
        in_channels (int): Channels C of the feature map.
        hid_channels (Sequence[int]): Widths of the hidden layers; AlexNet has ``(4096, 4096)``.
            Defaults to (), none.
        pool_size (int): Height and width to pool the map to; AlexNet has 6. Defaults to 1.
        dropout (float): Probability of dropout before each hidden layer. Defaults to 0.5.
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to None,
            PyTorch's.

    Example:
        >>> neck = FullyConnectedNeck(in_channels=256, hid_channels=(4096, 4096), pool_size=6)
        >>> neck((torch.rand(2, 256, 6, 6), ))[0].shape
        torch.Size([2, 4096])
    """

    def __init__(
        self,
        in_channels: Channels,
        hid_channels: Sequence[Channels] = (),
        pool_size: Annotated[int, Range(1, 64)] = 1,
        dropout: Fraction = 0.5,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.pool = nn.AdaptiveAvgPool2d(pool_size)
        self.hidden = nn.Sequential()
        width = in_channels * pool_size**2
        for out in hid_channels:
            self.hidden.extend([nn.Dropout(dropout), nn.Linear(width, out), nn.ReLU(inplace=True)])
            width = out

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Give the features of the classifier.

        Args:
            features (Sequence[Tensor]): Feature maps, the last of shape ``(B, C, H, W)``.

        Returns:
            list[Tensor]: One tensor of shape ``(B, D)``, D the last of ``hid_channels`` or
            C * pool_size^2.
        """
        return [self.hidden(self.pool(features[-1]).flatten(1))]
