"""The examples in the docstrings of the state modules are true."""

import doctest
import importlib
import pkgutil

import pytest

from mmselfsup_invp import memory

MODULES = [module.name for module in pkgutil.iter_modules(memory.__path__)]


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f'{memory.__name__}.{name}')
    assert doctest.testmod(module).failed == 0


def test_every_module_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    for name in set(memory.__all__) - {'RowState', 'NonFiniteFeatures'}:
        assert any(test.examples for test in finder.find(getattr(memory, name))), name
