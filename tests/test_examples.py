"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
MODULES = [
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    for path in sorted((ROOT / 'mmselfsup_invp').rglob('*.py'))
    if '.mim' not in path.parts and '>>>' in path.read_text()
]


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    assert not doctest.testmod(importlib.import_module(name), extraglobs=dict(torch=torch)).failed
