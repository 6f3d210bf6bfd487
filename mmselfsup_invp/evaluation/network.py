"""The network of a checkpoint."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import nn

from ..compat.host import MODELS
from ..registry import SCOPE
from .checkpoints import PretrainedBackbone


def build_backbone(
    backbone: PretrainedBackbone,
    random_init: bool = False,
    seed: int = 0,
    changes: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a network in evaluation mode, with its weights.

    Args:
        backbone (PretrainedBackbone): From :func:`~mmselfsup_invp.evaluation.read_backbone`.
        random_init (bool): Whether it keeps its initial weights instead. Defaults to False.
        seed (int): Seed of the initial weights. Defaults to 0.
        changes (dict, optional): Settings that override those of the checkpoint. Defaults to None.

    Returns:
        nn.Module: The network, on the CPU.

    Raises:
        ValueError: If a weight of the checkpoint is not loaded.
    """
    config = backbone.build_config(random_init=True) | (changes or {})
    with DefaultScope.overwrite_default_scope(SCOPE), _without_info():
        torch.manual_seed(seed)
        network = MODELS.build(copy.deepcopy(config))
        if random_init:
            network.init_weights()
    if not random_init:
        own = network.state_dict()
        same = {
            name: value
            for name, value in backbone.state.items()
            if name in own and own[name].shape == value.shape
        }
        network.load_state_dict(same, strict=False)
        backbone.check_loaded(network.state_dict())
    network.eval()  # Returns None for the networks of MMClassification.
    return network


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
