"""The state modules need PyTorch alone, and the examples in their docstrings are true."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmselfsup_invp import memory

ROOT = Path(__file__).resolve().parents[2]
MODULES = [module.name for module in pkgutil.iter_modules(memory.__path__)]

WITHOUT_TOOLBOX = """
import sys

BLOCKED = {'mmengine', 'mmcv', 'mmcls', 'mmselfsup', 'mmpretrain', 'mmdet'}
BLOCKED |= {'scipy', 'sklearn', 'faiss'}

class Block:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] in BLOCKED:
            raise ModuleNotFoundError(f'{name} is blocked', name=name)

import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition('.')[0] in BLOCKED else find_spec(name, package)
)
sys.meta_path.insert(0, Block)

import torch
from mmselfsup_invp.memory import Clusters, FeatureBank, KNNGraph

bank, graph = FeatureBank(feat_dim=4, length=12), KNNGraph(num_neighbours=2, length=12)
bank.update(torch.arange(3), torch.eye(4)[:3])
graph.rebuild(bank.bank)
clusters = Clusters(num_clusters=3, feat_dim=4, length=12)
clusters.cluster(bank.bank)
assert clusters.clustered and (graph.neighbours >= 0).all()
assert not BLOCKED & {name.partition('.')[0] for name in sys.modules}
print('done')
"""


def test_state_modules_need_nothing_but_torch():
    result = subprocess.run(
        [sys.executable, '-c', WITHOUT_TOOLBOX], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout == 'done\n', result.stderr


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f'{memory.__name__}.{name}')
    assert doctest.testmod(module).failed == 0


def test_every_module_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    for name in set(memory.__all__) - {'RowState', 'NonFiniteFeatures'}:
        assert any(test.examples for test in finder.find(getattr(memory, name))), name
