from pathlib import Path

import pytest
import torch
from torch import nn

from .checkpoints import save_checkpoint


@pytest.fixture(scope='session', params=[18, 50])
def trained(request, tmp_path_factory) -> tuple[Path, nn.Module]:
    torch.manual_seed(request.param)
    root = tmp_path_factory.mktemp(f'resnet{request.param}')
    return save_checkpoint(root / 'epoch_7.pth', depth=request.param, norm_cfg=dict(type='BN'))


@pytest.fixture(scope='session')
def small(tmp_path_factory) -> Path:
    """A checkpoint of ResNet-18, for what does not depend on the depth."""
    return save_checkpoint(tmp_path_factory.mktemp('small') / 'epoch_7.pth', depth=18)[0]
