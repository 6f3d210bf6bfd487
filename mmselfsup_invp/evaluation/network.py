"""The network of a checkpoint."""

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..compat.host import MODELS
from ..registry import SCOPE
from .checkpoints import PretrainedBackbone


def build_backbone(
    backbone: PretrainedBackbone,
    random_init: bool = False,
    seed: int = 0,
    changes: dict[str, Any] | None = None,
) -> nn.Module:
    """Build the network of a checkpoint on the CPU, in evaluation mode, with its weights.

    With ``random_init`` it keeps its initial weights, drawn by ``seed``. ``changes`` override
    settings of the checkpoint. A type that is not registered, or weights that are not those of the
    network, raise ``ValueError``.
    """
    config = backbone.build_config(random_init=True) | (changes or {})
    with DefaultScope.overwrite_default_scope(SCOPE), _without_info():
        torch.manual_seed(seed)
        try:
            network = MODELS.build(copy.deepcopy(config))
        except KeyError as error:  # Not registered.
            raise ValueError(f'The backbone of {backbone.path} cannot be built: {error}') from error
        if random_init:
            network.init_weights()
        else:
            load_weights(network, backbone.state, str(backbone.path))
    network.eval()  # Returns None for the networks of MMClassification.
    return network


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load all weights of a network; missing, unexpected or other ones raise ``ValueError``."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f'{source} does not hold the weights of this network. {error}') from error


@contextmanager
def _without_info() -> Iterator[None]:
    """Suppress MMEngine's line for each weight that is initialised."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
