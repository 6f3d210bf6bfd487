"""The command that runs all parts on a GPU: what it starts, keeps, repeats and reports."""

import json
import os
import runpy
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import BENCHMARKS

# Writes a record, fails, or waits together with a process of its own.
PROGRAM = """
import json, subprocess, sys, time
from pathlib import Path
what, number, _, record = sys.argv[1:]
calls = Path(__file__).with_name(what)
calls.write_text(calls.read_text() + 'x' if calls.exists() else 'x')
if what == 'fail':
    sys.exit('no | memory')
if what == 'wait':
    print(subprocess.Popen(['sleep', '60']).pid, flush=True)
    time.sleep(60)
Path(record).write_text(json.dumps(dict(seconds=dict(ours=1, theirs=float(number)))))
"""


@pytest.fixture
def gpu(benchmark_module):
    return benchmark_module('gpu')


@pytest.fixture
def parts(benchmark_module):
    return benchmark_module('gpu_parts')


@pytest.fixture
def program(gpu, parts, tmp_path, monkeypatch):
    """Three parts and a goal of the first two, in place of the real ones."""
    path = tmp_path / 'benchmarks' / 'program.py'
    path.parent.mkdir()
    path.write_text(PROGRAM)
    fake = {
        'good': parts.Part(f'python {path} good 3', '', 60),
        'bad': parts.Part(f'python {path} fail 3', '', 60),
        'slow': parts.Part(f'python {path} wait 3', '', 1),
    }
    goals = [
        parts.Goal('speed', 'theirs', '>=', 2, 'x', *parts.speed('good', 'ours', 'theirs')),
        parts.Goal('both', 'theirs', '<=', 1, 'x', ('bad', 'seconds', 'ours'), ('good', 'seconds')),
    ]
    for name, value in dict(PARTS=fake, GOALS=goals).items():
        monkeypatch.setattr(gpu, name, value)
    return path


def run(gpu, folder: Path, *options: str, monkeypatch) -> dict:
    """Results of a call, which may report that parts are not done."""
    monkeypatch.setattr(sys, 'argv', ['gpu.py', '--out', str(folder), *options])
    try:
        gpu.main()
    except SystemExit as error:
        assert str(error).startswith('Not done')
    path = folder / 'results.json'
    return json.loads(path.read_text()) if path.exists() else {}


def is_running(pid: int) -> bool:
    status = Path(f'/proc/{pid}/status')
    return status.exists() and 'State:\tZ' not in status.read_text()


def test_each_part_is_recorded_and_repeated_until_it_succeeds(gpu, program, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    results = run(gpu, out, '--parts', 'good', 'bad', monkeypatch=monkeypatch)
    assert results['good']['record'] == dict(seconds=dict(ours=1, theirs=3))
    assert [results[name]['state'] for name in results] == ['done', 'failed with exit status 1']
    table = (out / 'table.md').read_text()
    assert '| speed | theirs | >= 2 x | 3 x | yes | good |' in table
    assert '| both | theirs | <= 1 x | failed with exit status 1 |  | bad, good |' in table
    assert '| good | ours: 3.00 x as fast as theirs |' in table
    assert '| bad | failed with exit status 1: no / memory |' in table
    assert (out / 'bad.txt').read_text() == 'no | memory\n'
    run(gpu, out, '--parts', 'good', 'bad', monkeypatch=monkeypatch)
    calls = [program.with_name(name).read_text() for name in ('good', 'fail')]
    assert calls == ['x', 'xx']


def test_a_part_whose_command_has_changed_runs_again(gpu, program, tmp_path, monkeypatch):
    run(gpu, tmp_path / 'out', '--parts', 'good', monkeypatch=monkeypatch)
    changed = gpu.PARTS['good']._replace(command=f'python {program} good 1')
    monkeypatch.setitem(gpu.PARTS, 'good', changed)
    results = run(gpu, tmp_path / 'out', '--parts', 'good', monkeypatch=monkeypatch)
    assert results['good']['record']['seconds']['theirs'] == 1
    assert '| 1 x | no | good |' in (tmp_path / 'out' / 'table.md').read_text()


def test_other_sizes_are_reported(gpu, program):
    command = gpu.PARTS['good'].command
    result = dict(state='done', seconds=1, machine='today', last_line='', record=None)
    own = gpu.report(dict(good=dict(result, command=command)))
    assert own.startswith('Measured on today.\n\n')
    small = gpu.report(dict(good=dict(result, command=f'{command} --num 2')))
    assert small.startswith('Measured on today.\nWith other sizes than those of the goals: good.\n')


def test_a_part_that_takes_too_long_ends_with_its_processes(gpu, program, tmp_path, monkeypatch):
    results = run(gpu, tmp_path / 'out', '--parts', 'slow', monkeypatch=monkeypatch)
    assert results['slow']['state'] == 'timed out after 1 s'
    pid = int(results['slow']['last_line'])
    for _ in range(100):
        if not is_running(pid):
            break
        time.sleep(0.05)
    assert not is_running(pid)


def test_no_part_starts_after_the_time_of_a_call(gpu, program, tmp_path, monkeypatch):
    assert run(gpu, tmp_path / 'out', '--seconds', '-1', monkeypatch=monkeypatch) == {}


def test_a_missing_sanitizer_is_reported(gpu, parts, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    words = shlex.split(parts.PARTS['memcheck'].command)
    assert gpu.execute(words, tmp_path / 'log', 1, False) == 'compute-sanitizer is not on PATH'


def test_the_page_has_the_goals(gpu):
    page = (BENCHMARKS / 'README.md').read_text()
    assert '\n'.join(gpu.goal_table({})) in page


def test_goals_are_measured_by_parts_that_exist(parts):
    assert {name for goal in parts.GOALS for name in goal.parts()} <= set(parts.PARTS)


TESTS = ['tests', 'tests-models', 'tests-engine']
SMALL = [
    'search', 'search-classes', 'search-float32', 'search-10m', 'objective', 'objective-float32',
    'graph', 'inter', 'sinkhorn', 'step', 'constants-float16', 'constants-float32',
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('images-host', 'images-gpu')),
]  # fmt: skip


@pytest.mark.parametrize('name', SMALL)
def test_each_benchmark_accepts_its_command_and_writes_its_numbers(
    name, parts, benchmark_module, tmp_path, monkeypatch, capfd
):
    """With tiny sizes on the CPU, and without measuring memory, which takes processes."""
    monkeypatch.chdir(BENCHMARKS.parent)
    monkeypatch.setattr(benchmark_module('common'), 'peak_memory', lambda *args: 1)
    part = parts.PARTS[name]
    python, script, *options = shlex.split(part.command + part.small)
    record = tmp_path / 'record.json'
    monkeypatch.setattr(sys, 'argv', [script, *options, '--json', str(record)])
    if name.startswith('images-gpu'):
        pytest.importorskip('kornia')
    if name.startswith('constants'):
        pytest.importorskip('triton')
        assert os.environ.get('TRITON_INTERPRET') == '1'
    runpy.run_path(script, run_name='__main__')
    records = {name: json.loads(record.read_text())}
    keys = {keys for goal in parts.GOALS for keys in (goal.number, goal.divisor) if keys}
    keys = {one for one in keys if one[0] == name and one[-1] != 'gpu_busy'}
    assert all(parts.lookup(records, one) > 0 for one in keys)
    assert python == 'python' and records[name]['title']
    # The list of operations of a step.
    assert ('aten::' in capfd.readouterr().out) == ('--profile' in part.command)


@pytest.mark.slow  # Starts Python three times.
def test_a_part_in_its_own_process(tmp_path):
    command = [sys.executable, BENCHMARKS / 'gpu.py', '--small', '--out', tmp_path, '--parts']
    subprocess.run([*command, 'search'], check=True)
    (line,) = (
        line
        for line in (tmp_path / 'table.md').read_text().splitlines()
        if '| search |' in line[:10]
    )
    assert 'x as fast as' in line and '--num 500' in line


def test_every_part_is_started_by_these_tests(parts):
    names = {getattr(name, 'values', [name])[0] for name in SMALL}
    assert set(parts.PARTS) - names == {*TESTS, 'memcheck', 'racecheck'}


@pytest.mark.parametrize('name', TESTS)
def test_paths_of_the_tests_exist(name, parts):
    paths = [word for word in parts.PARTS[name].command.split() if word.startswith('tests/')]
    assert paths and all((BENCHMARKS.parent / path).exists() for path in paths)
