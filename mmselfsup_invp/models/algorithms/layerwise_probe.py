from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from ...compat.host import MODELS
from ...datasets.info import label_vector
from ...options import Choice, PositiveInt, Range, checked
from ...structures import label_tensor
from ..backbones import AlexNetBN

POOLS = {'mean': nn.AdaptiveAvgPool2d, 'max': nn.AdaptiveMaxPool2d}
NORMS = {
    'affine': nn.BatchNorm1d,
    'train': nn.BatchNorm1d,
    'plain': lambda width: nn.BatchNorm1d(width, affine=False),
    'none': lambda width: nn.Identity(),
}


def masked_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of logits ``(B, C)``, summed over the classes, averaged over the batch.

    ``target``, of the same shape, is 1, 0, or -1 for entries that do not count.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0).float(), reduction='none')
    return loss.masked_fill(target < 0, 0).sum() / len(logits)


LOSSES = {'single': F.cross_entropy, 'multi': masked_bce}


def probed_layers(backbone: nn.Module) -> dict[str, nn.Module]:
    """The modules whose outputs are probed, in the order of the forward pass.

    Of a ResNet of MMClassification or MMSelfSup its stem (after max pooling, if it has one) and
    each residual block: ``'stem'``, ``'layer1.0'``, and so on, 17 for a ResNet-50. Of ``AlexNetBN``
    its convolutions, ``'conv1'`` to ``'conv5'``. The part before the dot is the stage. Another
    network raises ``ValueError``.
    """
    if isinstance(backbone, AlexNetBN):
        return {f'conv{number}': layer for number, layer in enumerate(backbone.layers, start=1)}
    if not getattr(backbone, 'res_layers', None):
        raise ValueError(
            f'The blocks of {type(backbone).__name__} cannot be probed: it is neither a ResNet of '
            "MMClassification nor AlexNetBN. Use the host's linear configs, which probe the last "
            'feature map.'
        )
    stem = backbone.maxpool if hasattr(backbone, 'maxpool') else backbone.relu
    blocks = {
        f'{name}.{number}': block
        for name in backbone.res_layers
        for number, block in enumerate(getattr(backbone, name))
    }
    return {'stem': stem, **blocks}


class ProbeHead(nn.Sequential):
    """Pooling, normalisation of each feature, and a linear classifier."""

    def __init__(self, channels: int, size: int, pool: str, norm: str, num_classes: int) -> None:
        width = channels * size * size
        classifier = nn.Linear(width, num_classes)
        super().__init__(POOLS[pool](size), nn.Flatten(), NORMS[norm](width), classifier)
        nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)


@MODELS.register_module()
@checked
class LayerwiseProbe(BaseModel):
    """Linear classifiers on the layers of a frozen network.

    The protocol of InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_, section 4.1, and
    its official code): one classifier for the stem and for each residual block; the best of the 17
    layers of a ResNet-50 is reported. All classifiers train at once, each on its own loss; the loss
    of the model is their sum. On ``AlexNetBN`` the layers are the five convolutions (SeLa).

    Args:
        backbone (dict): Config of the network, with ``init_cfg`` for its weights.
        num_classes (int): C.
        pool_sizes (Sequence[int]): Height and width to which the stem and the blocks of each stage,
            or each convolution, are pooled. Defaults to (12, 6, 4, 3, 1) (the code; it comments on
            2 for the last). ``(1, 1, 1, 1, 1)`` is the global pooling of the paper's text.
        pool (str): ``'mean'`` or ``'max'``. Defaults to ``'mean'``.
        norm (str): ``'affine'``: batch normalisation that keeps its initial statistics and only
            scales and shifts, as in the code, whose training loop leaves it in evaluation mode;
            ``'train'``: usual batch normalisation; ``'plain'``: the same without scale and shift;
            ``'none'``: no normalisation. Defaults to ``'affine'``.
        labels (str): ``'single'``: one class an image, cross entropy; ``'multi'``: any number,
            :func:`masked_bce`. Defaults to ``'single'``.
        data_preprocessor (dict, optional): As for MMClassification's classifiers.
        init_cfg (dict, optional): Not used.

    Raises:
        ValueError: If an option is not valid, or the backbone cannot be probed.

    Attributes:
        layers (list[str]): Names of the probed layers, in order.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: PositiveInt,
        pool_sizes: Sequence[Annotated[int, Range(1, 64)]] = (12, 6, 4, 3, 1),
        pool: Annotated[str, Choice(POOLS)] = 'mean',
        norm: Annotated[str, Choice(NORMS)] = 'affine',
        labels: Annotated[str, Choice(LOSSES)] = 'single',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = dict(dict(type='mmcls.ClsDataPreprocessor'), **data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)
        self.num_classes = num_classes
        self.norm = norm
        self.labels = labels
        self.backbone = MODELS.build(backbone)
        self.backbone.requires_grad_(False)
        self.outputs: dict[str, Tensor] = {}
        layers = probed_layers(self.backbone)
        self.layers = list(layers)
        for name, module in layers.items():
            module.register_forward_hook(self._keep(name))
        stages = list(dict.fromkeys(name.partition('.')[0] for name in layers))
        if len(pool_sizes) != len(stages):
            raise ValueError(
                f'pool_sizes = {tuple(pool_sizes)} must have {len(stages)} entries, one for each '
                f'of {", ".join(stages)}.'
            )
        sizes = dict(zip(stages, pool_sizes, strict=True))
        self.heads = nn.ModuleList(self._build_heads(sizes, pool))
        self.train()

    def _keep(self, name: str):
        def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            self.outputs[name] = output

        return keep

    def _build_heads(self, sizes: dict[str, int], pool: str) -> Iterator[ProbeHead]:
        self.backbone.eval()
        for name, feature in self._features(torch.zeros(1, 3, 64, 64)).items():
            size = sizes[name.partition('.')[0]]
            yield ProbeHead(feature.size(1), size, pool, self.norm, self.num_classes)

    @torch.no_grad()
    def _features(self, image: Tensor) -> dict[str, Tensor]:
        self.backbone(image)
        features = {name: self.outputs[name] for name in self.layers}
        self.outputs.clear()
        return features

    def train(self, mode: bool = True) -> 'LayerwiseProbe':
        """Set the mode of the heads; the backbone is always in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        if self.norm == 'affine':
            for head in self.heads:
                head[2].eval()
        return self

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list:
        """Classify images by every layer.

        Args:
            inputs (Tensor): Float, shape ``(B, 3, H, W)``.
            data_samples (list[ClsDataSample], optional): With ``gt_label``.
            mode (str): ``'tensor'``, ``'loss'`` or ``'predict'``. Defaults to ``'tensor'``.

        Returns:
            Tensor | dict | list: Logits of the L layers, ``(B, L, C)``; the sum of the losses as
            ``loss``; or the samples with ``layer_scores``, float, ``(L, C)``.
        """
        features = self._features(inputs).values()
        logits = torch.stack([head(x) for head, x in zip(self.heads, features, strict=True)], 1)
        if mode == 'tensor':
            return logits
        if mode == 'predict':
            for sample, scores in zip(data_samples, logits, strict=True):
                sample.set_field(scores, 'layer_scores')
            return data_samples
        target = self._targets(data_samples)
        loss = LOSSES[self.labels]
        return dict(loss=sum(loss(each.float(), target) for each in logits.unbind(1)))

    def _targets(self, data_samples: list) -> Tensor:
        labels = [label_tensor(sample.gt_label) for sample in data_samples]
        if self.labels == 'single':
            return torch.cat(labels)
        difficult = [sample.get('gt_label_difficult') for sample in data_samples]
        return torch.stack(
            [label_vector(*each, self.num_classes) for each in zip(labels, difficult, strict=True)]
        )
