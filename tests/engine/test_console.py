"""What a run shows on the console, and what its log file holds."""

import json
from pathlib import Path

import pytest

from mmselfsup_invp.engine import ConciseRunner

from .. import toy
from .recording import log_text


def run(images, work_dir, capsys, **changes):
    changes.setdefault('log_processor', dict(type='ProgressLogProcessor'))
    runner = ConciseRunner.from_cfg(toy.runner_config(images, work_dir, 2, **changes))
    runner.train()
    return runner, capsys.readouterr().out.splitlines()


def test_the_console_is_short_and_the_file_complete(images, tmp_path, capsys):
    runner, lines = run(images, tmp_path, capsys)
    first = next(row for row, line in enumerate(lines) if 'Epoch 1/2 [1/3]' in line)
    assert first < 30
    text = log_text(tmp_path)
    for content in ('System environment:', 'Config:', 'Hooks will be executed', 'Exp name:'):
        assert content in text and not any(content in line for line in lines)
    assert str(Path(runner.logger.log_file)) in lines[0]


def test_the_line_of_progress(images, tmp_path, capsys):
    runner, lines = run(images, tmp_path, capsys)
    line = next(line for line in lines if 'Epoch 2/2 [3/3]' in line)
    # 10 of the 24 rows and the row of the image itself are in the denominator.
    for content in ('(chance 2.4)', 'ETA 0:00:00', 'loss ', 'loss_inv ', 'num_positives'):
        assert content in line
    assert 'lr 0.0' in line and 'base_lr' not in line and 'memory' not in line
    text = next(tmp_path.rglob('scalars.json')).read_text()
    scalars = [entry for entry in map(json.loads, text.splitlines()) if 'data_time' in entry]
    assert len(scalars) == 6
    for entry in scalars:  # The batch has 8 images.
        assert entry['images_per_second'] == pytest.approx(8 / entry['time'])
    speed, loading = entry['images_per_second'], entry['data_time'] / entry['time']
    assert f'{speed:.3g} images/s (loading {loading:.0%})' in line


def test_a_single_loss_is_named_once(images, tmp_path, capsys):
    head = dict(_delete_=True, type='SoftInvPHead', num_background=None)
    changes = dict(model=dict(toy.model_config('SoftInvP'), head=head))
    changes['model']['head'].pop('_delete_')
    changes['model']['memory'] = dict(
        type='PropagationMemory', feat_dim=toy.DIM, num_neighbours=2, momentum=0
    )
    loader = toy.loader(images, views=toy.VIEWS, num_views=2)
    _, lines = run(images, tmp_path, capsys, train_dataloader=loader, **changes)
    line = next(line for line in lines if 'Epoch 2/2 [3/3]' in line)
    assert line.count('loss') == 1 and '(chance 3.18)' in line  # ln 24


def test_warnings_are_marked(images, tmp_path, capsys):
    _, lines = run(images, tmp_path, capsys, model=dict(head=dict(loss=dict(num_background=50))))
    (line,) = [line for line in lines if 'num_background = 50 is lowered to 23' in line]
    assert '  WARNING: ' in line
