"""The backbone of a checkpoint and its comparison with the network of another library."""

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..compat.host import MODELS
from ..evaluation import PretrainedBackbone
from ..evaluation.network import build_backbone
from ..registry import SCOPE

# Attributes of mmcls's ResNets that decide which libraries have the same network.
ATTRIBUTES = (
    *('depth', 'stem_channels', 'base_channels', 'num_stages', 'strides', 'dilations'),
    *('style', 'deep_stem', 'avg_down'),
)
IMAGES = (2, 3, 64, 64)


@dataclass(frozen=True)
class Network:
    """The backbone of a checkpoint with its weights, in eval mode on the CPU, and its config.

    ``settings`` is the ``type`` from the config; of a ResNet also the arguments of its class
    (``depth``, ``base_channels``, ...), ``stem`` (``'7x7'``), ``norm`` and ``norm_eps``.
    """

    module: nn.Module
    config: dict[str, Any]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The name in torchvision and timm, ``resnet50``."""
        return f'resnet{self.settings["depth"]}'

    def __str__(self) -> str:
        if 'depth' not in self.settings:
            return self.settings['type']
        return (
            '{type} of depth {depth} with a {stem} stem of {stem_channels} channels and '
            'base_channels = {base_channels}'
        ).format(**self.settings)


def build_network(backbone: PretrainedBackbone) -> Network:
    """Build the network of a checkpoint, without SyncBN, and load its weights.

    A type that is not registered and weights that do not fit or are not finite raise
    ``ValueError``.
    """
    backbone.require_finite()
    module = revert_sync_batchnorm(build_backbone(backbone))
    config = backbone.build_config(random_init=True)
    return Network(module, config, _settings(module, config['type']))


def build_module(config: dict[str, Any]) -> nn.Module:
    """Build a backbone from its config, in the scope of this package and without SyncBN."""
    with DefaultScope.overwrite_default_scope(SCOPE):
        return revert_sync_batchnorm(MODELS.build(config))


def _settings(module: nn.Module, kind: str) -> dict[str, Any]:
    if not all(hasattr(module, name) for name in ATTRIBUTES):
        return dict(type=kind)
    found = {name: getattr(module, name) for name in ATTRIBUTES}
    found['strides'], found['dilations'] = tuple(module.strides), tuple(module.dilations)
    stem = 'deep' if module.deep_stem else '{}x{}'.format(*module.conv1.kernel_size)
    eps = {layer.eps for layer in module.modules() if hasattr(layer, 'eps')}
    norm = dict(norm=module.norm_cfg['type'], norm_eps=max(eps))
    return dict(type=kind, stem=stem, **norm, **found)


@torch.no_grad()
def stage_features(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Feature maps of all stages for images ``(B, 3, H, W)``, by the name of the stage.

    The stages of a ResNet are its children ``layer1``, ``layer2``, ..., as in MMClassification,
    MMDetection, torchvision and timm; of other networks only the ``output`` is given.
    """
    features: dict[str, Tensor] = {}
    stages = [item for item in network.named_children() if item[0].startswith('layer')]
    handles = [
        stage.register_forward_hook(
            lambda module, args, output, name=name: features.__setitem__(name, output)
        )
        for name, stage in stages
    ]
    try:
        output = network(images)
    finally:
        for handle in handles:
            handle.remove()
    return features or dict(output=output[-1] if isinstance(output, (list, tuple)) else output)


def max_difference(network: Network, other: nn.Module, label: str) -> float:
    """Largest absolute difference between the features of all stages on random images.

    Raises ``ValueError`` if features differ by more than ``torch.testing.assert_close`` tolerates.
    ``label`` is the name of the other network in the message.
    """
    images = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0))
    ours, theirs = stage_features(network.module, images), stage_features(other, images)
    if ours.keys() != theirs.keys():
        raise ValueError(f'{label} has stages {list(theirs)}, the checkpoint has {list(ours)}.')
    for stage, feature in ours.items():
        try:
            torch.testing.assert_close(theirs[stage], feature)
        except AssertionError as error:
            raise ValueError(f'{label} gives other features in {stage}: {error}') from error
    return max((theirs[stage] - ours[stage]).abs().max().item() for stage in ours)
