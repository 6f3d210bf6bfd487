"""The benchmark of an epoch measures all of its time, once, and how busy the GPU is."""

import argparse
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from .. import toy


@pytest.fixture
def epoch(benchmark_module):
    return benchmark_module('epoch')


@pytest.fixture
def args(images, tmp_path):
    """Options for a toy config."""
    toy.runner_config(images, tmp_path / 'work').dump(tmp_path / 'toy.py')
    return argparse.Namespace(
        config=str(tmp_path / 'toy.py'), cfg_options=None, warmup=1, iters=10, threads=None,
        whole=False, jpegs=None, json=tmp_path / 'record.json',
    )  # fmt: skip


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


def test_the_time_of_a_run_is_divided_into_sections(epoch, args, tmp_path):
    start = time.perf_counter()
    watch, runner = epoch.run(args, str(tmp_path / 'work'))
    assert sum(watch.seconds.values()) < time.perf_counter() - start
    assert runner.iter == 3  # All that an epoch of the toy has.
    for part in ('data: wait', 'data: pre', 'network', 'objective', 'backward', 'optimiser'):
        assert any(name.startswith(part) and watch.seconds[name] > 0 for name in watch.seconds)
    assert 'hook: PropagationMemoryHook' in watch.seconds


def test_whole_steps_on_jpeg_files(epoch, args, tmp_path):
    args.whole, args.jpegs = True, 20
    watch, runner = epoch.run(args, str(tmp_path / 'work'))
    assert list(watch.seconds) == [epoch.REST] and runner.iter == 3
    assert len(runner.train_dataloader.dataset) == len(runner.model.memory) == 20
    epoch.report(watch, runner, args)
    record = json.loads(args.json.read_text())
    # Two batches of 8 images after the first one.
    assert record['images_per_second'] == pytest.approx(16 / watch.seconds[epoch.REST])
    assert record['title'] == 'toy' and record['gpu_busy'] is None


def test_a_list_repeats_the_files(benchmark_module, tmp_path, monkeypatch):
    jpegs = benchmark_module('jpegs')
    monkeypatch.setattr(jpegs, 'FILES', 2)
    options = jpegs.write_jpegs(tmp_path / 'images', 5)
    lines = (tmp_path / 'images' / options['ann_file']).read_text().splitlines()
    assert lines == ['000.jpg 0', '001.jpg 1', '000.jpg 0', '001.jpg 1', '000.jpg 0']
    first, second = (Image.open(tmp_path / 'images/train' / line[:7]) for line in lines[:2])
    assert first.size == second.size == (500, 375)
    assert np.abs(np.subtract(first, second, dtype=float)).mean() > 30


def test_the_utilization_of_a_gpu_is_a_mean(epoch, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    device = SimpleNamespace(uuid='1f-2')
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda index: device)
    program = tmp_path / 'nvidia-smi'
    words = tmp_path / 'words'
    # Prints two samples and one that is missing before it writes its arguments.
    program.write_text(
        f'#!/bin/sh\nprintf "90\\n[N/A]\\n100\\n"\necho $* > {words}\nexec sleep 60\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    gpu = epoch.GPUUtilization()
    gpu.start()
    while not words.exists():
        time.sleep(0.01)
    gpu.stop()
    assert gpu.percent == 95
    assert words.read_text().startswith('--id=GPU-1f-2 --query-gpu=utilization.gpu')
    monkeypatch.setenv('PATH', '/nowhere')
    without = epoch.GPUUtilization()
    without.start()
    without.stop()
    assert without.percent is None
