"""The benchmark of an epoch books all of its time, once."""

import argparse
import importlib.util
import time
from pathlib import Path

import pytest

from .. import toy

SCRIPT = Path(__file__).resolve().parents[2] / 'benchmarks' / 'epoch.py'


@pytest.fixture(scope='module')
def epoch():
    spec = importlib.util.spec_from_file_location('epoch_benchmark', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sections_exclude_what_they_hold(epoch):
    class Work:
        def outer(self):
            time.sleep(0.02)
            self.inner()

        def inner(self):
            time.sleep(0.05)

    work, watch = Work(), epoch.Stopwatch()
    watch.watch(work, 'outer', 'outer')
    watch.watch(work, 'inner', 'inner')
    work.outer()
    watch.stop()
    work.outer()  # After the end.
    assert set(watch.seconds) == {'outer', 'inner', epoch.REST}
    assert 0.05 <= watch.seconds['inner'] < 2 and watch.seconds['outer'] >= 0.02
    assert watch.seconds['outer'] < watch.seconds['inner'] + 1
    assert watch.cpu['inner'] < watch.seconds['inner']


def test_a_run_is_told_apart(epoch, images, tmp_path, monkeypatch):
    config = toy.runner_config(images, tmp_path / 'work')
    config.dump(tmp_path / 'toy.py')
    args = argparse.Namespace(
        config=str(tmp_path / 'toy.py'), cfg_options=None, warmup=1, iters=10, threads=None
    )
    start = time.perf_counter()
    watch, runner = epoch.run(args, str(tmp_path / 'work'))
    assert sum(watch.seconds.values()) < time.perf_counter() - start
    assert runner.iter == 3  # All that an epoch of the toy has.
    for part in ('data: wait', 'data: pre', 'network', 'objective', 'backward', 'optimiser'):
        assert any(name.startswith(part) and watch.seconds[name] > 0 for name in watch.seconds)
    assert 'hook: PropagationMemoryHook' in watch.seconds
