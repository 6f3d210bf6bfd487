"""The network of the arena and baselines that the host does not have in this form."""

import torch
import torch.nn.functional as F
from mmcls.models.backbones import ResNet_CIFAR
from mmselfsup.models.algorithms.base import BaseModel
from mmselfsup.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class MixedResNet(ResNet_CIFAR):
    """MMClassification's ResNet for CIFAR, channels last, in bfloat16 arithmetic.

    Weights, statistics and what leaves the network are float32, so that necks and losses are too.

    Args:
        width (int): Channels of the stem and of the first stage; 64 is the usual network.
        **kwargs: See MMClassification's ``ResNet_CIFAR``.
    """

    def __init__(self, width: int = 64, **kwargs) -> None:
        super().__init__(stem_channels=width, base_channels=width, **kwargs)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the last stage, float32, ``(B, 8 * width, H / 8, W / 8)``."""
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, torch.bfloat16):
            maps = super().forward(image)
        return tuple(one.float() for one in maps)


@MODELS.register_module()
class Supervised(BaseModel):
    """Backbone and linear classifier: what labels would give.

    Args:
        num_classes (int): Classes.
        in_channels (int): Channels of the feature map.
        **kwargs: backbone and data_preprocessor.
    """

    def __init__(self, num_classes: int, in_channels: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.classifier = nn.Linear(in_channels, num_classes)

    def extract_feat(self, inputs: list[Tensor], **kwargs) -> tuple[Tensor, ...]:
        """Feature maps of the backbone."""
        return self.backbone(inputs[0])

    def loss(self, inputs: list[Tensor], data_samples: list, **kwargs) -> dict[str, Tensor]:
        """Cross entropy of a batch."""
        label = data_samples.label.to(inputs[0].device)
        feature = F.adaptive_avg_pool2d(self.extract_feat(inputs)[-1], 1).flatten(1)
        return dict(loss=F.cross_entropy(self.classifier(feature), label))
