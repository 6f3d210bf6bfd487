"""The public names of the operations."""

import doctest
import inspect

from mmselfsup_invp import ops


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
