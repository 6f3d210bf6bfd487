"""The network of a checkpoint, and how it is compared with that of another library."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..compat.host import MODELS
from ..evaluation import PretrainedBackbone
from ..evaluation.checkpoints import listed
from ..registry import SCOPE

# What decides which library has the same network, besides the type; mmcls's names.
ATTRIBUTES = (
    *('depth', 'stem_channels', 'base_channels', 'num_stages', 'strides', 'dilations'),
    *('style', 'deep_stem', 'avg_down'),
)
IMAGES = (2, 3, 64, 64)
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Network:
    """The backbone of a checkpoint, built and loaded.

    Attributes:
        module (nn.Module): The network in eval mode, on the CPU.
        settings (dict[str, Any]): ``type`` as the config has it. Of a ResNet also what its class
            was given (``depth``, ``base_channels``, ...), ``stem`` (``'7x7'``), ``norm`` and
            ``norm_eps``.
    """

    module: nn.Module
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """What torchvision and timm call it: ``resnet50``."""
        return f'resnet{self.settings["depth"]}'

    def __str__(self) -> str:
        if 'depth' not in self.settings:
            return self.settings['type']
        return (
            '{type} of depth {depth} with a {stem} stem of {stem_channels} channels and '
            'base_channels = {base_channels}'
        ).format(**self.settings)


def build_network(backbone: PretrainedBackbone) -> Network:
    """Build the network of a checkpoint with all its weights.

    Args:
        backbone (PretrainedBackbone): What :func:`~mmselfsup_invp.evaluation.read_backbone` gave.

    Returns:
        Network: In eval mode, on the CPU; synchronised batch norms made plain ones.

    Raises:
        ValueError: If its type is not registered, or weights are missing, unexpected, of another
            shape, NaN or infinite.
    """
    # The names in the config are those of the run, whatever else this process has built.
    try:
        with DefaultScope.overwrite_default_scope(SCOPE):
            module = MODELS.build(backbone.build_config(random_init=True))
    except KeyError as error:  # Not registered.
        raise ValueError(f'The backbone of {backbone.path} cannot be built: {error}') from error
    module = revert_sync_batchnorm(module)
    require_same_shapes(
        shapes(backbone.state), shapes(module.state_dict()), str(backbone.path), 'its own config'
    )
    broken = [name for name, value in backbone.state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f'{backbone.path} holds NaN or infinite values in {listed(broken, 8)}. Export an '
            'earlier checkpoint of the run.'
        )
    module.load_state_dict(backbone.state)
    module.eval()  # OpenMMLab's ResNets do not return themselves.
    return Network(module, _settings(module, backbone.config['type']))


def _settings(module: nn.Module, kind: str) -> dict[str, Any]:
    if not all(hasattr(module, name) for name in ATTRIBUTES):
        return dict(type=kind)
    found = {name: getattr(module, name) for name in ATTRIBUTES}
    found['strides'], found['dilations'] = tuple(module.strides), tuple(module.dilations)
    kernel = 'deep' if module.deep_stem else '{}x{}'.format(*module.conv1.kernel_size)
    eps = {layer.eps for layer in module.modules() if hasattr(layer, 'eps')}
    norm = dict(norm=module.norm_cfg['type'], norm_eps=max(eps))
    return dict(type=kind, stem=kernel, **norm, **found)


def shapes(weights: Mapping[str, Any]) -> Shapes:
    """Shapes of tensors or arrays by name."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def require_same_shapes(found: Shapes, expected: Shapes, source: str, network: str) -> None:
    """Compare names and shapes of weights.

    Args:
        found (dict[str, tuple[int, ...]]): Shapes by name.
        expected (dict[str, tuple[int, ...]]): Those of the network that they are for.
        source (str): Where the first are from, for the message.
        network (str): The network, for the message.

    Raises:
        ValueError: If a name is missing or unexpected, or a shape is another.
    """
    both = sorted(found.keys() & expected.keys())
    faults = {
        'missing': sorted(expected.keys() - found.keys()),
        'unexpected': sorted(found.keys() - expected.keys()),
        'of another shape': [
            f'{name} {found[name]} for {expected[name]}'
            for name in both
            if found[name] != expected[name]
        ],
    }
    told = [f'{kind}: {listed(names, 8)}' for kind, names in faults.items() if names]
    if told:
        raise ValueError(f'The weights of {source} are not those of {network}. {"; ".join(told)}.')


@torch.no_grad()
def stage_features(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Feature maps behind every stage of a ResNet.

    MMClassification, MMDetection, torchvision and timm name the stages alike, whatever their
    forward pass returns.

    Args:
        network (nn.Module): With children ``layer1``, ``layer2``, ...
        images (Tensor): (B, 3, H, W), float32.

    Returns:
        dict[str, Tensor]: (B, C, H', W') by the name of the stage.
    """
    features: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[..., None]:
        return lambda module, args, output: features.__setitem__(name, output)

    stages = [item for item in network.named_children() if item[0].startswith('layer')]
    handles = [stage.register_forward_hook(keeper(name)) for name, stage in stages]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return features


def largest_difference(network: Network, other: nn.Module, label: str) -> float:
    """Compare the features of all stages on random images.

    Args:
        network (Network): The network of the checkpoint.
        other (nn.Module): That of another library, with the exported weights, in eval mode.
        label (str): Its name, for the message.

    Returns:
        float: Largest absolute difference of two values.

    Raises:
        ValueError: If features differ by more than ``torch.testing.assert_close`` tolerates.
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
