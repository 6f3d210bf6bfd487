from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...compat.host import MODELS
from ...ops.search.products import disable_autocast
from ...options import Channels, Fraction, InitCfg, checked

XAVIER = dict(type='Xavier', layer='Linear', distribution='uniform', bias=0.0)


@MODELS.register_module()
@checked
class ProjectionNeck(BaseModule):
    """Pool the last feature map and project it to the embedding.

    The two necks of InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_, section 4):
    ``Linear(in, out)`` without ``hid_channels``, ``Linear(in, hid)-ReLU-Linear(hid, out)`` with
    it; biases, no normalisation layer, Xavier-uniform weights as in the official code. The
    embedding is not normalised here.

    The last layer and its output stay in float32 under automatic mixed precision: in bfloat16 it
    blurs the similarities that the losses tell apart.

    Args:
        in_channels (int): Channels of the feature map (ResNet-50: 2048).
        out_channels (int): Dimensions D of the embedding. Defaults to 128.
        hid_channels (int, optional): Width of the hidden layer; None for the linear neck.
            Defaults to None.
        dropout (float): Probability of dropout before pooling (an option of the official CIFAR
            networks, off there too). Defaults to 0.
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to Xavier-uniform
            weights and zero biases.

    Example:
        >>> neck = ProjectionNeck(in_channels=512, hid_channels=512)
        >>> neck((torch.rand(2, 512, 4, 4), ))[0].shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels = 128,
        hid_channels: Channels | None = None,
        dropout: Fraction = 0.0,
        init_cfg: InitCfg = XAVIER,
    ) -> None:
        super().__init__(init_cfg)
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.AdaptiveAvgPool2d(1)
        if hid_channels is None:
            self.hidden = nn.Identity()
        else:
            self.hidden = nn.Sequential(nn.Linear(in_channels, hid_channels), nn.ReLU(inplace=True))
        self.output = nn.Linear(hid_channels or in_channels, out_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Project the last of the backbone's feature maps.

        Args:
            features (Sequence[Tensor]): Feature maps, the last of shape ``(B, C, H, W)``.

        Returns:
            list[Tensor]: One float32 tensor of shape ``(B, D)``.
        """
        hidden = self.hidden(self.pool(self.dropout(features[-1])).flatten(1))
        with disable_autocast(hidden.device):
            return [self.output(hidden.float())]
