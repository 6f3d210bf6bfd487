"""The operations need PyTorch alone, and what their docstrings show is true."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmselfsup_invp import ops

ROOT = Path(__file__).resolve().parents[2]
# The compiled libraries beside the modules are none themselves.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(ops.__path__, f'{ops.__name__}.')
    if '._native' not in module.name and '.triton' not in module.name
]
MODULES += [f'{ops.__name__}.search.triton{part}' for part in ('', '_gather', '_select')]

WITHOUT_TOOLBOX = """
import sys
from importlib.machinery import PathFinder

HIDDEN = {'mmengine', 'mmcv', 'mmcls', 'mmselfsup', 'mmdet'}
HIDDEN |= {'scipy', 'sklearn', 'faiss', 'triton'}

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition('.')[0] not in HIDDEN:
            return super().find_spec(name, path, target)

sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
try:
    import mmengine
except ModuleNotFoundError:
    pass
else:
    sys.exit('the toolbox is not hidden')

import torch
from mmselfsup_invp import ops

bank = torch.eye(4)
nearest = ops.top_m(bank, bank, 3)
loss = ops.instance_loss(bank, bank, torch.arange(4), nearest, ops.HardSampling(0.5))
assert loss.isfinite().all()
assert len(ops.kmeans(bank, 2)[0]) == 4
assert not HIDDEN & {name.partition('.')[0] for name in sys.modules}
print('done')
"""


def test_ops_need_nothing_but_torch():
    result = subprocess.run(
        [sys.executable, '-c', WITHOUT_TOOLBOX], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout == 'done\n', result.stderr


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings(name):
    if '.triton' in name:
        pytest.importorskip('triton')
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_every_public_operation_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    assert len(ops.__all__) <= 25
    for name in ops.__all__:
        if callable(getattr(ops, name)) and name not in ('Neighbours', 'Positives'):
            assert any(test.examples for test in finder.find(getattr(ops, name))), name


def test_no_public_operation_has_more_than_eight_parameters():
    for name in ops.__all__:
        if inspect.isfunction(function := getattr(ops, name)):
            assert len(inspect.signature(function).parameters) <= 8, name
