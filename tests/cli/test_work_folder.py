"""A run overwrites no other, and goes on from the checkpoint that was meant."""

import os

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.cli.work_folder import how_to_go_on, prepare_resume


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A work folder with two checkpoints, the first the older; the process stands elsewhere."""
    work = tmp_path / 'work'
    work.mkdir()
    for number, name in enumerate(['epoch_9.pth', 'epoch_10.pth']):
        torch.save({}, work / name)
        os.utime(work / name, (number, number))
    monkeypatch.chdir(tmp_path)
    return work


def settled(folder, **settings):
    cfg = Config(dict(work_dir=str(folder), **settings))
    prepare_resume(cfg)
    return cfg.get('resume'), cfg.get('load_from')


def test_a_folder_with_checkpoints_is_refused(folder, monkeypatch):
    message = r'work holds a run already: epoch_9.pth, epoch_10.pth, last written 1970-01-01 .*'
    with pytest.raises(FileExistsError, match=message + '--resume .* --work-dir, or delete'):
        settled(folder)
    # What is loaded is not what is gone on from.
    with pytest.raises(FileExistsError):
        settled(folder, load_from=str(folder / 'epoch_9.pth'))
    # The first process speaks for all.
    monkeypatch.setenv('RANK', '1')
    assert settled(folder, launcher='pytorch') == (None, None)
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(FileExistsError):
        settled(folder, launcher='pytorch')


def test_without_checkpoints_a_folder_is_free(tmp_path):
    (tmp_path / '20260101_000000').mkdir()
    assert settled(tmp_path) == settled(tmp_path / 'new') == (None, None)


def test_resume_takes_the_latest(folder):
    assert settled(folder, resume=True) == (True, str(folder / 'epoch_10.pth'))
    # By name alone: the folder may have been moved.
    (folder / 'last_checkpoint').write_text('/elsewhere/epoch_9.pth')
    assert settled(folder, resume=True) == (True, str(folder / 'epoch_9.pth'))


def test_resume_without_a_checkpoint_starts_anew(tmp_path, capsys):
    assert settled(tmp_path / 'new', resume=True) == (False, None)
    assert 'no checkpoint in' in (said := capsys.readouterr().out) and 'starting anew' in said


def test_a_checkpoint_is_looked_for_here_and_in_the_folder(folder):
    named = settled(folder, resume=True, load_from='epoch_9.pth')
    assert named == (True, str(folder / 'epoch_9.pth'))
    here = settled(folder, resume=True, load_from='work/epoch_9.pth')
    assert here == (True, 'work/epoch_9.pth')
    message = 'no checkpoint .*epoch_8.pth. In that folder: epoch_10.pth, epoch_9.pth'
    with pytest.raises(FileNotFoundError, match=message):
        settled(folder, resume=True, load_from='epoch_8.pth')


def test_a_checkpoint_that_was_cut_short_is_named(folder):
    whole = (folder / 'epoch_10.pth').read_bytes()
    (folder / 'epoch_11.pth').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match='epoch_11.pth is damaged: .* Delete it'):
        settled(folder, resume=True)


def test_a_checkpoint_from_elsewhere_needs_a_folder_of_its_own(folder, tmp_path):
    torch.save({}, tmp_path / 'epoch_5.pth')
    with pytest.raises(FileExistsError, match='holds a run already'):
        settled(folder, resume=True, load_from='epoch_5.pth')
    assert settled(tmp_path / 'new', resume=True, load_from='epoch_5.pth')[0]


def test_who_stops_a_run_learns_how_to_go_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'my config.py'])
    told = how_to_go_on(Config(dict(work_dir=str(folder))))
    assert 'epoch_10.pth' in told and told.endswith("tools/train.py 'my config.py' --resume")
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'c.py', '--resume'])
    assert how_to_go_on(Config(dict(work_dir=str(folder)))).endswith('c.py --resume')
    hooks = dict(checkpoint=dict(interval=10))
    told = how_to_go_on(Config(dict(work_dir=str(tmp_path / 'new'), default_hooks=hooks)))
    assert 'no checkpoint yet (default_hooks.checkpoint.interval = 10)' in told
