"""torchvision and timm, which read a state dict."""

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model

from ..network import Network
from .base import STANDARD_RESNET, Target, Verification, Weights, verify_features

CLASSIFIER = ('fc.weight', 'fc.bias')


class Torchvision(Target):
    """A state dict without the classifier."""

    supported = STANDARD_RESNET

    def save(self, weights: Weights, meta: dict[str, Any], path: Path) -> None:
        """Write the state dict; the metadata are an attribute, because each key is a weight."""
        state = OrderedDict(weights)
        state.meta = meta
        torch.save(state, path)

    def verify(self, path: Path, network: Network) -> Verification:
        """Compare the features of torchvision's ResNet."""
        return verify_torchvision(torch.load(path, map_location='cpu'), network)

    def usage(self, path: Path, network: Network, meta: dict[str, Any]) -> str:
        """Return code that loads all weights but those of ``fc``."""
        return (
            f'model = torchvision.models.{network.name}()\n'
            f'model.load_state_dict(torch.load({str(path)!r}), strict=False)  # all but fc'
        )


class Timm(Torchvision):
    """The same file, in timm's ResNet without a classifier."""

    def verify(self, path: Path, network: Network) -> Verification:
        """Compare the features of timm's ResNet, or of torchvision's if timm is not installed."""
        if find_spec('timm') is None:
            found = super().verify(path, network)
            note = 'timm, which uses the same names, is not installed'
            return Verification(f'{found.method}; {note}', found.difference)
        import timm

        model = timm.create_model(network.name, num_classes=0)
        weights = torch.load(path, map_location='cpu')
        return verify_features(weights, model, network, f"timm's {network.name}")

    def usage(self, path: Path, network: Network, meta: dict[str, Any]) -> str:
        """Return code that creates the model with the weights."""
        arguments = f'{network.name!r}, num_classes=0, checkpoint_path={str(path)!r}'
        return f'model = timm.create_model({arguments})'


def verify_torchvision(weights: Weights, network: Network) -> Verification:
    """Compare the features of torchvision's ResNet with these weights."""
    model = get_model(network.name, weights=None)
    return verify_features(weights, model, network, f"torchvision's {network.name}", CLASSIFIER)
