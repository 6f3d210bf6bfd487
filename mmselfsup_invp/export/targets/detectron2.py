"""Detectron2, which reads a pickled dict of NumPy arrays."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model

from ..network import Network
from .base import STANDARD_RESNET, Target, Verification, Weights
from .state_dict import CLASSIFIER, verify_torchvision


class Detectron2(Target):
    """The format of Detectron2's model zoo."""

    suffix = '.pkl'
    supported = STANDARD_RESNET

    def rename(self, name: str) -> str:
        """Return Detectron2's name of a weight."""
        return detectron2_name(name)

    def save(self, weights: Weights, meta: dict[str, Any], path: Path) -> None:
        """Write the arrays and the metadata."""
        arrays = {name: value.numpy() for name, value in weights.items()}
        # With the heuristics, Detectron2 matches the ends of names, such as backbone.res2.
        content = dict(model=arrays, __author__='mmselfsup_invp', matching_heuristics=True)
        path.write_bytes(pickle.dumps(content | dict(meta=meta)))

    def verify(self, path: Path, network: Network) -> Verification:
        """Compare the features of torchvision's ResNet after renaming its weights."""
        arrays = pickle.loads(path.read_bytes())['model']
        names = get_model(network.name, weights=None).state_dict().keys() - set(CLASSIFIER)
        original = {detectron2_name(name): name for name in names}
        weights = {original.get(name, name): torch.tensor(each) for name, each in arrays.items()}
        found = verify_torchvision(weights, network)
        note = "under the names that Detectron2's converter gives its weights"
        return Verification(f'{found.method}, {note}', found.difference)

    def usage(self, path: Path, network: Network, meta: dict[str, Any]) -> str:
        """Return the settings of a config with this network and its input format."""
        depth = network.settings['depth']
        lines = {'MODEL.WEIGHTS': str(path), 'MODEL.RESNETS.DEPTH': depth}
        if depth < 50:
            lines['MODEL.RESNETS.RES2_OUT_CHANNELS'] = 64
        lines['MODEL.RESNETS.STRIDE_IN_1X1'] = False
        lines['INPUT.FORMAT'] = meta['channel_order']
        if 'mean' in meta:
            lines |= {'MODEL.PIXEL_MEAN': meta['mean'], 'MODEL.PIXEL_STD': meta['std']}
        return '\n'.join(f'cfg.{name} = {value!r}' for name, value in lines.items())


def detectron2_name(name: str) -> str:
    """Detectron2's name of a weight of torchvision's ResNet.

    The rules of Detectron2's ``tools/convert-torchvision-to-d2.py``, a script that is not part of
    its package.

    Example:
        >>> detectron2_name('layer1.0.downsample.1.bias')
        'res2.0.shortcut.norm.bias'
    """
    if 'layer' not in name:
        name = f'stem.{name}'
    for stage in (4, 3, 2, 1):
        name = name.replace(f'layer{stage}', f'res{stage + 1}')
    for number in (1, 2, 3):
        name = name.replace(f'bn{number}', f'conv{number}.norm')
    return name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
