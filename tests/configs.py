"""The configs of the methods."""

from pathlib import Path

import pytest
from mmengine.config import Config

import mmselfsup_invp  # noqa: F401  (registers; names mmselfsup_invp:: configs)

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'configs'
METHODS = sorted(path.parent.name for path in FOLDER.glob('*/metafile.yml'))
CONFIGS = sorted(
    f'{method}/{path.stem}' for method in METHODS for path in (FOLDER / method).glob('*.py')
)
every_config = pytest.mark.parametrize('name', CONFIGS)


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')
