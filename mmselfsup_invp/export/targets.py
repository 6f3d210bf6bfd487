"""The libraries that a backbone can be written for."""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from .detectron2_names import detectron2_name, detectron2_shapes
from .network import Network, largest_difference, require_same_shapes, shapes

Weights = dict[str, Tensor]

# ResNets as torchvision has them; the other libraries took over this form.
PLAIN = dict(
    type=('ResNet', 'mmselfsup.ResNet', 'mmcls.ResNet'),
    depth=(18, 34, 50, 101, 152),
    stem=('7x7',),
    norm=('BN', 'BN2d', 'SyncBN'),
    avg_down=(False,),
)
STANDARD = dict(
    **PLAIN,
    stem_channels=(64,),
    base_channels=(64,),
    num_stages=(4,),
    strides=((1, 2, 2, 2),),
    dilations=((1, 1, 1, 1),),
    style=('pytorch',),
    norm_eps=(1e-5,),
)


@dataclass(frozen=True)
class Verified:
    """How a written file was checked.

    Attributes:
        how (str): What was compared with what.
        difference (float, optional): Largest absolute difference of two features; None where no
            forward passes were compared.
    """

    how: str
    difference: float | None = None


@dataclass(frozen=True)
class Target:
    """How a backbone is written for a library, checked and loaded.

    Attributes:
        suffix (str): Ending that the library knows the format by.
        takes (Mapping[str, tuple]): The values of :attr:`Network.settings` that it has networks
            for; settings that are not named may have any.
        rename (Callable): The library's name of a weight, from ours.
        save (Callable): Writes weights and metadata to a path.
        verify (Callable): Reads the file as the library does and compares it with the network.
        usage (Callable): Lines of code that load the file, from path, network and metadata.
    """

    suffix: str
    takes: Mapping[str, tuple]
    rename: Callable[[str], str]
    save: Callable[[Weights, dict[str, Any], Path], None]
    verify: Callable[[Path, Network], Verified]
    usage: Callable[[Path, Network, dict[str, Any]], str]

    def refused(self, network: Network) -> dict[str, tuple]:
        """Settings of the network that the library has no network for, with what it takes."""
        found = network.settings
        return {name: valid for name, valid in self.takes.items() if found.get(name) not in valid}


def _same_name(name: str) -> str:
    return name


def _verify_features(
    weights: Weights, model: nn.Module, network: Network, label: str, absent: tuple[str, ...] = ()
) -> Verified:
    """Load weights that lack nothing but ``absent``, and compare the features of all stages."""
    expected = {
        name: shape for name, shape in shapes(model.state_dict()).items() if name not in absent
    }
    require_same_shapes(shapes(weights), expected, 'the written file', label)
    model.load_state_dict(weights, strict=False)
    model.eval()
    difference = largest_difference(network, model, label)
    return Verified(f'equal forward passes of {label} and of the checkpoint', difference)


# ---- torchvision and timm: a bare state dict ----


def _save_state_dict(weights: Weights, meta: dict[str, Any], path: Path) -> None:
    # A further key would count as a weight. PyTorch keeps versions in an attribute, too.
    state = OrderedDict(weights)
    state.meta = meta
    torch.save(state, path)


def _verify_torchvision(path: Path, network: Network) -> Verified:
    model = get_model(network.name, weights=None)
    weights = torch.load(path, map_location='cpu')
    label = f"torchvision's {network.name}"
    return _verify_features(weights, model, network, label, ('fc.weight', 'fc.bias'))


def _use_torchvision(path: Path, network: Network, meta: dict[str, Any]) -> str:
    return (
        f'model = torchvision.models.{network.name}()\n'
        f'model.load_state_dict(torch.load({str(path)!r}), strict=False)  # all but fc'
    )


def _verify_timm(path: Path, network: Network) -> Verified:
    if find_spec('timm') is None:
        found = _verify_torchvision(path, network)
        return Verified(
            f'{found.how}; timm, whose names are the same, is not installed', found.difference
        )
    import timm

    model = timm.create_model(network.name, num_classes=0)
    weights = torch.load(path, map_location='cpu')
    return _verify_features(weights, model, network, f"timm's {network.name}")


def _use_timm(path: Path, network: Network, meta: dict[str, Any]) -> str:
    arguments = f'{network.name!r}, num_classes=0, checkpoint_path={str(path)!r}'
    return f'model = timm.create_model({arguments})'


# ---- MMDetection ----


def _save_mmdet(weights: Weights, meta: dict[str, Any], path: Path) -> None:
    torch.save(dict(meta=meta, state_dict=weights), path)


def _mmdet_config(network: Network) -> dict[str, Any]:
    """Arguments of MMDetection's ResNet, without what it defaults to."""
    settings = network.settings
    defaults = dict(
        stem_channels=settings['base_channels'],
        base_channels=64,
        num_stages=4,
        strides=(1, 2, 2, 2),
        dilations=(1, 1, 1, 1),
    )
    config = {name: settings[name] for name, value in defaults.items() if settings[name] != value}
    if 'num_stages' in config:
        config['out_indices'] = tuple(range(settings['num_stages']))
    if settings['norm_eps'] != 1e-5:
        config['norm_cfg'] = dict(type='BN', eps=settings['norm_eps'], requires_grad=True)
    # The style is a default, too, but detectors that are inherited from may have the other.
    return dict(depth=settings['depth'], style=settings['style'], **config)


def _verify_mmdet(path: Path, network: Network) -> Verified:
    if find_spec('mmdet') is None:
        raise ModuleNotFoundError(
            'mmdet is not installed: the file cannot be verified. Install it with '
            '`pip install mmdet==3.3.0`.'
        )
    from mmdet.models import ResNet  # Not by a registry, which heeds the scope of a run.

    model = ResNet(**_mmdet_config(network))
    weights = torch.load(path, map_location='cpu')['state_dict']
    return _verify_features(weights, model, network, f"mmdet's ResNet-{network.settings['depth']}")


def _use_mmdet(path: Path, network: Network, meta: dict[str, Any]) -> str:
    weights = dict(type='Pretrained', checkpoint=str(path))
    model = dict(backbone=dict(type='ResNet', **_mmdet_config(network), init_cfg=weights))
    if 'mean' in meta:
        model['data_preprocessor'] = dict(
            mean=meta['mean'], std=meta['std'], bgr_to_rgb=meta['channel_order'] == 'RGB'
        )
    parts = ''.join(f'    {name}={_dict_call(config)},\n' for name, config in model.items())
    return f'model = dict(\n{parts})'


def _dict_call(config: dict[str, Any]) -> str:
    """A config as OpenMMLab writes it, in one line."""
    items = {
        name: _dict_call(value) if isinstance(value, dict) else repr(value)
        for name, value in config.items()
    }
    return f'dict({", ".join(f"{name}={value}" for name, value in items.items())})'


# ---- Detectron2 ----


def _save_detectron2(weights: Weights, meta: dict[str, Any], path: Path) -> None:
    arrays = {name: value.numpy() for name, value in weights.items()}
    # Heuristics: names are matched by their ends, so that backbone.res2 and roi_heads.res5 are met.
    content = dict(model=arrays, __author__='mmselfsup_invp', matching_heuristics=True, meta=meta)
    path.write_bytes(pickle.dumps(content))


def _verify_detectron2(path: Path, network: Network) -> Verified:
    depth = network.settings['depth']
    label = f"Detectron2's ResNet-{depth}"
    weights = pickle.loads(path.read_bytes())['model']
    require_same_shapes(shapes(weights), detectron2_shapes(depth), 'the written file', label)
    return Verified(f'names and shapes are those of {label}')


def _use_detectron2(path: Path, network: Network, meta: dict[str, Any]) -> str:
    depth = network.settings['depth']
    lines = {'MODEL.WEIGHTS': str(path), 'MODEL.RESNETS.DEPTH': depth}
    if depth < 50:
        lines['MODEL.RESNETS.RES2_OUT_CHANNELS'] = 64
    lines['MODEL.RESNETS.STRIDE_IN_1X1'] = False
    lines['INPUT.FORMAT'] = meta['channel_order']
    if 'mean' in meta:
        lines |= {'MODEL.PIXEL_MEAN': meta['mean'], 'MODEL.PIXEL_STD': meta['std']}
    return '\n'.join(f'cfg.{name} = {value!r}' for name, value in lines.items())


TARGETS = {
    'torchvision': Target(
        '.pth', STANDARD, _same_name, _save_state_dict, _verify_torchvision, _use_torchvision
    ),
    'timm': Target('.pth', STANDARD, _same_name, _save_state_dict, _verify_timm, _use_timm),
    'detectron2': Target(
        '.pkl', STANDARD, detectron2_name, _save_detectron2, _verify_detectron2, _use_detectron2
    ),
    'mmdet': Target('.pth', PLAIN, _same_name, _save_mmdet, _verify_mmdet, _use_mmdet),
}
