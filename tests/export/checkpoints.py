"""Checkpoints to export, and the feature maps to compare."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn

from mmselfsup_invp.compat.host import MODELS

from .. import toy

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def randomised(backbone: nn.Module) -> nn.Module:
    """Draw batch norms too, so that no two weights are alike."""
    for name, value in backbone.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5)
        if name.endswith('running_mean') or name.endswith('bias'):
            value.sub_(1)
    backbone.eval()
    return backbone


def save_checkpoint(path: Path, **backbone: Any) -> tuple[Path, nn.Module]:
    """A checkpoint as MMEngine's runner writes it, and its backbone."""
    model = toy.model_config(data_preprocessor=dict(mean=MEAN, std=STD))
    model['backbone'] = {'type': 'ResNet', **backbone}
    network = randomised(revert_sync_batchnorm(MODELS.build(model['backbone'])))
    state = {f'backbone.{name}': value for name, value in network.state_dict().items()}
    state['neck.fc.weight'] = torch.zeros(2, 2)
    meta = dict(
        cfg=Config(dict(model=model)).pretty_text,
        epoch=7,
        iter=70,
        experiment_name='invp_tiny_20240101_000000',
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=state, meta=meta, message_hub={}), path)
    return path, network


@torch.no_grad()
def last_map(backbone: nn.Module) -> Tensor:
    return backbone(IMAGES)[-1]
