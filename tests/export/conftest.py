from pathlib import Path

import pytest

from .checkpoints import save_checkpoint


@pytest.fixture(scope='module')
def small(tmp_path_factory) -> Path:
    """A checkpoint of ResNet-18, for what does not depend on the depth."""
    return save_checkpoint(tmp_path_factory.mktemp('small') / 'epoch_7.pth', depth=18)[0]
