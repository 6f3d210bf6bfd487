"""The public names of the state modules."""

import doctest

from mmselfsup_invp import memory


def test_every_module_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    for name in set(memory.__all__) - {'RowState', 'NonFiniteFeatures'}:
        assert any(test.examples for test in finder.find(getattr(memory, name))), name
