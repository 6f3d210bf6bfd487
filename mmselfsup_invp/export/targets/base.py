"""Base of the libraries that a backbone can be exported to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from ...evaluation.network import load_weights
from ..network import Network, max_difference

Weights = dict[str, Tensor]

# The ResNets of torchvision, from which the other libraries took their form.
RESNET = dict(
    type=('ResNet', 'mmselfsup.ResNet', 'mmcls.ResNet'),
    depth=(18, 34, 50, 101, 152),
    stem=('7x7',),
    norm=('BN', 'BN2d', 'SyncBN'),
    avg_down=(False,),
)
STANDARD_RESNET = dict(
    **RESNET,
    stem_channels=(64,),
    base_channels=(64,),
    num_stages=(4,),
    strides=((1, 2, 2, 2),),
    dilations=((1, 1, 1, 1),),
    style=('pytorch',),
    norm_eps=(1e-5,),
)


@dataclass(frozen=True)
class Verification:
    """How a written file was verified, and the largest absolute difference between two features."""

    method: str
    difference: float


class Target(ABC):
    """A library that reads an exported backbone.

    Attributes:
        suffix (str): Ending of the file name.
        supported (Mapping[str, tuple]): Supported values of :attr:`Network.settings`; settings
            that are not listed may have any value.
    """

    suffix: ClassVar[str] = '.pth'
    supported: ClassVar[Mapping[str, tuple]] = {}

    def rename(self, name: str) -> str:
        """Return the library's name of a weight of the backbone; here the same name."""
        return name

    @abstractmethod
    def save(self, weights: Weights, meta: dict[str, Any], path: Path) -> None:
        """Write renamed weights and metadata to a file."""

    @abstractmethod
    def verify(self, path: Path, network: Network) -> Verification:
        """Read a file as the library does and compare its features with those of the network.

        Raises:
            ModuleNotFoundError: If the library is required but not installed.
            ValueError: If weights or features differ.
        """

    @abstractmethod
    def usage(self, path: Path, network: Network, meta: dict[str, Any]) -> str:
        """Return code or settings that load the file."""

    def unsupported(self, network: Network) -> dict[str, tuple]:
        """Return the settings of a network that are not supported, with the supported values."""
        found = network.settings
        return {
            name: valid for name, valid in self.supported.items() if found.get(name) not in valid
        }


def verify_features(
    weights: Weights, model: nn.Module, network: Network, label: str, absent: tuple[str, ...] = ()
) -> Verification:
    """Load weights into the model of a library and compare its features with the network's.

    ``absent`` are weights of the model that the file lacks, those of the classifier. Other weights
    that are missing or unexpected, or features that differ, raise ``ValueError``.
    """
    own = {name: value for name, value in model.state_dict().items() if name in absent}
    load_weights(model, own | weights, f'The file written for {label}')
    model.eval()
    difference = max_difference(network, model, label)
    return Verification(f'equal forward passes of {label} and of the checkpoint', difference)
