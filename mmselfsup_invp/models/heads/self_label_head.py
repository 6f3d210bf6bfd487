import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...compat.host import MODELS
from ...ops import self_label_loss
from ...ops.search.products import disable_autocast
from ...options import Channels, InitCfg, PositiveInt, checked


@MODELS.register_module()
@checked
class SelfLabelHead(BaseModule):
    """The multi-head classifier of SeLa: several classifiers, each with its own labels.

    `SeLa <https://arxiv.org/abs/1911.05371>`_. The loss is the mean of the cross entropies.

    Args:
        in_channels (int): D, width of the features.
        num_classes (int): K, classes of each head. Defaults to 3000 (the official script for
            ImageNet).
        num_heads (int): H. Defaults to 10 (the same script).
        init_cfg (dict | list[dict], optional): Weight initialisation. Defaults to None,
            PyTorch's, as in the official ResNet. The official AlexNet uses normal weights with
            standard deviation 0.01 and zero biases.
    """

    def __init__(
        self,
        in_channels: Channels,
        num_classes: PositiveInt = 3000,
        num_heads: PositiveInt = 10,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.num_heads = num_heads
        self.classifiers = nn.Linear(in_channels, num_heads * num_classes)

    def forward(self, feature: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            feature (Tensor): Float, shape ``(B, D)``.
            label (Tensor): int64, shape ``(B, H)``.

        Returns:
            dict[str, Tensor]: ``loss`` and, for the log, ``label_accuracy``: the percentage of
            the labels that the heads predict.
        """
        logits = self.classifiers(feature).float().unflatten(1, (self.num_heads, -1))
        correct = logits.detach().argmax(dim=2) == label
        return dict(
            loss=self_label_loss(logits, label), label_accuracy=correct.float().mean() * 100
        )

    def log_prob(self, feature: Tensor, head: int) -> Tensor:
        """Compute the log-probabilities of one head, float32, ``(B, K)``.

        Args:
            feature (Tensor): Float, shape ``(B, D)``.
            head (int): 0 to H - 1.
        """
        rows = slice(head * self.num_classes, (head + 1) * self.num_classes)
        weight, bias = self.classifiers.weight[rows], self.classifiers.bias[rows]
        with disable_autocast(feature.device):
            return F.linear(feature.float(), weight.float(), bias.float()).log_softmax(dim=1)
