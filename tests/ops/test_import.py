"""The public names of the operations, and the examples in their docstrings."""

import doctest
import importlib
import inspect
import pkgutil
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
