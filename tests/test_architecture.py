"""The figure of the architecture, and the imports that it forbids."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def architecture():
    spec = importlib.util.spec_from_file_location('architecture', ROOT / 'docs/architecture.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_is_up_to_date(architecture):
    assert architecture.FIGURE.read_text() == architecture.draw(architecture.imports())


def test_the_core_imports_nothing_above_it(architecture):
    graph = architecture.imports()
    assert graph['options'] == set()
    assert graph['ops'] == {'options'}
    assert graph['memory'] == {'ops', 'options'}
    below = architecture.reached(graph, 'models.algorithms')
    assert not below & {'cli', 'engine', 'evaluation', 'export', 'visualization'}
    assert all('cli' not in near for near in graph.values())


def test_a_circle_is_an_error(architecture):
    with pytest.raises(ValueError, match='a -> b -> a'):
        architecture.rows({'a': {'b'}, 'b': {'a'}})


def test_arrows_that_follow_from_others_are_left_out(architecture):
    graph = {'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}
    assert architecture.essential(graph) == {'a': {'b'}, 'b': {'c'}, 'c': set()}
