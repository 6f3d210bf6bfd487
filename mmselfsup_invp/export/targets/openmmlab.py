"""MMDetection and MMSelfSup, which read a dict with ``state_dict`` and ``meta``."""

from pathlib import Path
from typing import Any

import torch

from ..network import Network, build_module
from .base import RESNET, Target, Verification, Weights, verify_features

PREFIX = 'backbone.'


class MMDetection(Target):
    """Weights that ``init_cfg`` of a backbone loads without a prefix."""

    supported = RESNET

    def save(self, weights: Weights, meta: dict[str, Any], path: Path) -> None:
        """Write tensors and plain metadata, which ``torch.load`` reads with ``weights_only``."""
        torch.save(dict(meta=meta, state_dict=weights), path)

    def verify(self, path: Path, network: Network) -> Verification:
        """Compare the features of MMDetection's ResNet."""
        try:
            from mmdet.models import ResNet  # A registry would depend on the scope of the run.
        except ImportError as error:
            raise ModuleNotFoundError(
                f'The file cannot be verified, because MMDetection cannot be imported ({error}). '
                'It needs mmdet 3.3.0 and mmcv with its compiled operations. --to mmselfsup writes '
                "a file that MMDetection reads with prefix='backbone.' and needs neither."
            ) from error
        model = ResNet(**mmdet_config(network))
        label = f"mmdet's ResNet-{network.settings['depth']}"
        return verify_features(read_state(path), model, network, label)

    def usage(self, path: Path, network: Network, meta: dict[str, Any]) -> str:
        """Return the part of a detector's config with the backbone and its preprocessing."""
        weights = dict(type='Pretrained', checkpoint=str(path))
        backbone = dict(type='ResNet', **mmdet_config(network), init_cfg=weights)
        return _model_config(backbone, meta)


class MMSelfSup(Target):
    """Weights with the prefix ``backbone.``, as the benchmark configs of OpenMMLab read them.

    The host's and MMDetection's scripts pass ``prefix='backbone.'`` for checkpoints. Those of the
    runner hold objects besides tensors, which ``torch.load`` refuses since PyTorch 2.6.
    """

    def rename(self, name: str) -> str:
        """Add the prefix."""
        return PREFIX + name

    def save(self, weights: Weights, meta: dict[str, Any], path: Path) -> None:
        """Write tensors and plain metadata, which ``torch.load`` reads with ``weights_only``."""
        torch.save(dict(meta=meta, state_dict=weights), path)

    def verify(self, path: Path, network: Network) -> Verification:
        """Compare the features of the same network with the weights of the file."""
        weights = {name.removeprefix(PREFIX): each for name, each in read_state(path).items()}
        module = build_module(network.config)
        return verify_features(weights, module, network, f'a {network.settings["type"]}')

    def usage(self, path: Path, network: Network, meta: dict[str, Any]) -> str:
        """Return the part of a config with the backbone and its preprocessing."""
        weights = dict(type='Pretrained', checkpoint=str(path), prefix=PREFIX)
        return _model_config(network.config | dict(init_cfg=weights), meta)


def read_state(path: Path) -> Weights:
    """Read the weights of a file, as PyTorch 2.6 and newer do by default."""
    return torch.load(path, map_location='cpu', weights_only=True)['state_dict']


def mmdet_config(network: Network) -> dict[str, Any]:
    """Return the arguments of MMDetection's ResNet that differ from its defaults."""
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
    # Named although 'pytorch' is the default, because the base config of a detector may differ.
    return dict(depth=settings['depth'], style=settings['style'], **config)


def _model_config(backbone: dict[str, Any], meta: dict[str, Any]) -> str:
    model = dict(backbone=backbone)
    if 'mean' in meta:
        model['data_preprocessor'] = dict(
            mean=meta['mean'], std=meta['std'], bgr_to_rgb=meta['channel_order'] == 'RGB'
        )
    parts = ''.join(f'    {name}={_dict_call(config)},\n' for name, config in model.items())
    return f'model = dict(\n{parts})'


def _dict_call(config: dict[str, Any]) -> str:
    """Format a config as ``dict(...)`` calls in one line."""
    items = {
        name: _dict_call(value) if isinstance(value, dict) else repr(value)
        for name, value in config.items()
    }
    return f'dict({", ".join(f"{name}={value}" for name, value in items.items())})'
