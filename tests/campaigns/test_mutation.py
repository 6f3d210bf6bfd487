import importlib
from pathlib import Path

import pytest

from .mutants import Mutant, mutants


@pytest.fixture
def write(tmp_path):
    """Write a module of a package in a tree; return its path."""

    def written(text: str, name: str = 'ops/one.py') -> Path:
        path = tmp_path / 'mmselfsup_invp' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return written


def test_every_mutant_differs_in_one_place(write):
    path = write('a = 1 < b and f(-2.0, c=True)\nd = e if not g else [h + 1]\n')
    first, second = path.read_text().splitlines()
    expected = {
        1: (
            'a = 1 < b or f(-2.0, c=True)',
            'a = 1 <= b and f(-2.0, c=True)',
            'a = 2 < b and f(-2.0, c=True)',
            'a = 1 < b and f(2.0, c=True)',
            'a = 1 < b and f(-3.1, c=True)',
            'a = 1 < b and f(-2.0, c=False)',
        ),
        2: (
            'd = [h + 1] if not g else e',
            'd = e if g else [h + 1]',
            'd = e if not g else [h - 1]',
            'd = e if not g else [h + 2]',
        ),
    }
    assert {(mutant.line, mutant.source) for mutant in mutants(path)} == {
        (line, f'{changed}\n{second}' if line == 1 else f'{first}\n{changed}')
        for line, changes in expected.items()
        for changed in changes
    }


def test_hints_messages_and_strict_stay(write):
    text = "def f(a: Range[0, 1]) -> Range[2, 3]:\n    raise ValueError(f'{a + 1}', 2)\n"
    assert not list(mutants(write(f'{text}zip(a, b, strict=True)\n')))


@pytest.fixture
def mutation(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module('mutation')


def test_the_quickest_tests_of_the_line_are_tried_first(write, mutation, tmp_path):
    path = write('def f():\n    return 1\n')
    tests = {f'test_{n}': dict(seconds=10 - n, lines={'ops/one.py': [1, 2]}) for n in range(10)}
    tests['test_other'] = dict(seconds=0, lines={'ops/one.py': [1], 'ops/two.py': [2]})
    found = list(mutation.tests_of(Mutant(path, 2, '', '', ''), tmp_path, tests))
    # Together they take 15 seconds, with one more 21.
    assert mutation.MOST_SECONDS == 20
    assert found == [[*mutation.QUICK, *(f'test_{n}' for n in range(9, 4, -1))]]
    # No test executes line 3: those of the module.
    first, last = mutation.tests_of(Mutant(path, 3, '', '', ''), tmp_path, tests)
    assert first[len(mutation.QUICK)] == 'test_other' and last == mutation.OF_DEFAULTS


def test_files_that_start_processes_are_tried_last(write, mutation, tmp_path):
    path = write('def f():\n    return 1\n')
    write('from .one import f\n\n\ndef g():\n    return f()\n', 'ops/two.py')
    for name, text in {'test_a': 'f', 'test_b': 'g', 'test_c': 'h'}.items():
        for starts in ('from .processes import run_ranks\n', ''):
            file = tmp_path / 'tests' / f'{name}{"_processes" * bool(starts)}.py'
            file.parent.mkdir(exist_ok=True)
            file.write_text(f'{starts}{text}()\n')
    _, found = mutation.tests_of(Mutant(path, 2, '', '', ''), tmp_path, {})
    files = ['tests/test_a_processes.py', 'tests/test_b_processes.py']
    assert found == [str(tmp_path / file) for file in files]
