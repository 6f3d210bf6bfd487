import json

import pytest
import torch

from mmselfsup_invp.evaluation import read_run

from .. import toy


def write_log(run, start, lines, tail=''):
    folder = run / start / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(f'{json.dumps(line)}\n' for line in lines)
    (folder / 'scalars.json').write_text(text + tail)


def step(epoch, number, loss):
    return dict(loss=loss, lr=0.1, epoch=epoch, iter=number, step=number)


def score(epoch, value):
    return {'knn/bank_k20_t0.07': value, 'step': epoch}


@pytest.fixture
def run(tmp_path):
    """A run of 4 iterations an epoch that was stopped in epoch 3 and resumed from epoch 2."""
    (tmp_path / 'work').mkdir()
    first = [step(1, 2, 9.0), score(1, 10.0), step(2, 6, 8.0), score(2, 20.0), step(3, 10, 7.0)]
    write_log(tmp_path / 'work', '20260101_000000', first, tail='{"loss": 3.')
    second = [step(3, 10, 6.0), {'sela/cost': 2.0, 'step': 8}, score(3, 30.0)]
    write_log(tmp_path / 'work', '20260102_000000', second)
    save(tmp_path / 'work' / 'epoch_3.pth', epoch=3, iter=12)
    return tmp_path / 'work'


def save(path, **meta):
    cfg = "model = dict(type='InvP')\n"
    torch.save(dict(meta=dict(cfg=cfg, **meta), state_dict={'x': torch.ones(1)}), path)


def test_a_resumed_run_is_one_run(run):
    found = read_run(run)
    assert found.starts == ['20260101_000000', '20260102_000000']
    assert found.curves['loss'].value == [9.0, 8.0, 6.0]
    assert found.curves['loss'].epoch == [0.5, 1.5, 2.5]
    assert found.curves['knn/bank_k20_t0.07'].epoch == [1, 2, 3]
    assert found.curves['knn/bank_k20_t0.07'].value == [10, 20, 30]
    assert found.curves['sela/cost'].epoch == [2.0]  # Logged by iterations.
    assert found.config.model.type == 'InvP' and found.meta['epoch'] == 3
    assert not {'epoch', 'iter', 'step'} & set(found.curves)


def test_a_run_from_the_start_leaves_nothing_of_those_before(run):
    write_log(run, '20260103_000000', [step(1, 2, 5.0)])
    found = read_run(run)
    assert found.curves['loss'].value == [5.0] and 'knn/bank_k20_t0.07' not in found.curves


def test_a_run_resumed_within_epoch_1_keeps_its_earlier_points(tmp_path):
    first = [step(1, number, number / 10) for number in (10, 20, 30, 40, 50)]
    second = [step(1, number, -number / 10) for number in (50, 60, 70)]
    write_log(tmp_path, '20260101_000000', first)
    write_log(tmp_path, '20260102_000000', second)
    save(tmp_path / 'epoch_1.pth', epoch=1, iter=70)
    assert read_run(tmp_path).curves['loss'].value == [1, 2, 3, 4, -5, -6, -7]
    # Started anew after that, and stopped before the first checkpoint.
    write_log(tmp_path, '20260103_000000', first[:2])
    assert read_run(tmp_path).curves['loss'].value == [1, 2]


def test_the_length_of_an_epoch_without_a_checkpoint_from_its_end(run):
    (run / 'epoch_3.pth').unlink()
    save(run / 'iter_10.pth', epoch=2, iter=10)
    # Of the lines, (1, 2), (2, 6) and (3, 10), none is possible with less than 4.
    assert read_run(run).curves['loss'].epoch == [0.5, 1.5, 2.5]


def test_which_checkpoint_is_read(run):
    save(run / 'epoch_10.pth', epoch=10, iter=40)
    assert read_run(run).checkpoint.name == 'epoch_10.pth'
    # The folder was moved: the name counts.
    (run / 'last_checkpoint').write_text('/somewhere/else/epoch_3.pth\n')
    assert read_run(run).checkpoint.name == 'epoch_3.pth'
    (run / 'last_checkpoint').write_text('/somewhere/else/epoch_7.pth')
    assert read_run(run).checkpoint.name == 'epoch_10.pth'
    assert read_run(run, run / 'epoch_3.pth').meta['epoch'] == 3


def test_what_is_missing_is_named(run):
    with pytest.raises(FileNotFoundError, match='There is no folder .*nothing'):
        read_run(run / 'nothing')
    with pytest.raises(FileNotFoundError, match='20260101_000000 has no log'):
        read_run(run / '20260101_000000')
    with pytest.raises(FileNotFoundError, match='There is no checkpoint .*epoch_4.pth'):
        read_run(run, run / 'epoch_4.pth')
    (run / 'epoch_3.pth').unlink()
    with pytest.raises(FileNotFoundError, match='has no intact checkpoint .epoch_'):
        read_run(run)


def test_reads_what_a_runner_writes(images, tmp_path):
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    run = tmp_path / 'run'
    toy.build_runner(images, run, 1, default_hooks=hooks).train()
    (log,) = run.glob('*/vis_data')
    log.parent.rename(run / '20260101_000000')  # The next start may come in the same second.
    config = toy.runner_config(images, run, 2, default_hooks=hooks)
    config.resume = True
    toy.Runner.from_cfg(config).train()
    found = read_run(run)
    assert found.checkpoint.name == 'epoch_2.pth' and len(found.starts) == 2
    # 24 images in batches of 8, each logged.
    assert found.curves['loss'].epoch == pytest.approx([n / 3 for n in range(1, 7)])
    assert found.curves['graph/unfilled'].epoch == [1, 2]
    assert found.state['memory.bank'].shape == (24, toy.DIM)
