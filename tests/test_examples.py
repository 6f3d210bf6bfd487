"""The examples in docstrings are true, and those in examples/ run."""

import doctest
import importlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from .pages import ROOT

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


@pytest.fixture
def stripes(tmp_path) -> Path:
    """48 images of horizontal or vertical stripes, in a folder for each."""
    random = np.random.default_rng(0)
    for name in ('horizontal', 'vertical'):
        (tmp_path / name).mkdir()
        for number in range(24):
            pixels = np.full((32, 32, 3), 255 * (np.arange(32)[:, None, None] // 4 % 2), np.uint8)
            pixels = np.where(random.random(pixels.shape) < 0.1, 128, pixels).astype(np.uint8)
            if name == 'vertical':
                pixels = pixels.swapaxes(0, 1)
            Image.fromarray(pixels).save(tmp_path / name / f'{number}.png')
    return tmp_path


def run_example(name: str, monkeypatch, capsys, *arguments: str) -> list[str]:
    """Lines that a script of examples/ prints."""
    monkeypatch.syspath_prepend(ROOT / 'examples')
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    runpy.run_path(str(ROOT / 'examples' / name), run_name='__main__')
    return capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_example_in_pytorch(stripes, monkeypatch, capsys):
    lines = run_example('pytorch_invp.py', monkeypatch, capsys, str(stripes), '--epochs', '4')
    first, last = lines[0].split(), lines[-1].split()
    assert len(lines) == 4 and first[:2] == ['epoch', '1']
    assert float(first[5]) == 0 < float(last[5])  # propagation, from the second epoch on
    assert float(last[-2]) > 60  # kNN accuracy; chance is 50


@pytest.mark.slow
def test_example_in_lightning(stripes, monkeypatch, capsys):
    pytest.importorskip('lightning')
    monkeypatch.chdir(stripes)  # where Lightning writes its checkpoint
    images = str(stripes / 'horizontal')  # one class: a folder without subfolders
    lines = run_example('lightning_invp.py', monkeypatch, capsys, images, '--epochs', '2')
    assert lines[-1] == 'kNN 100.0 %'


@pytest.mark.slow
def test_notebook(tmp_path):
    nbclient = pytest.importorskip('nbclient')
    nbformat = pytest.importorskip('nbformat')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    notebook = nbformat.read(ROOT / 'examples/tour.ipynb', as_version=4)
    stored = [cell.outputs for cell in notebook.cells if cell.cell_type == 'code']
    nbclient.NotebookClient(notebook, resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == 'code']
    # Figures and shapes are those in the file, which a forge shows.
    kinds = [[sorted(output.get('data', ())) for output in cell] for cell in outputs]
    assert kinds == [[sorted(output.get('data', ())) for output in cell] for cell in stored]
    assert sum('image/png' in kind for cell in kinds for kind in cell) == 3
