"""A run overwrites no other and resumes from the named checkpoint."""

import os

import pytest
import torch
from mmengine.config import Config

from mmselfsup_invp.cli.work_folder import prepare_resume, resume_instructions


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A work folder with two checkpoints, below the current folder."""
    work = tmp_path / 'work'
    work.mkdir()
    for number, name in enumerate(['epoch_9.pth', 'epoch_10.pth']):
        torch.save({}, work / name)
        os.utime(work / name, (number, number))
    monkeypatch.chdir(tmp_path)
    return work


def resumed(folder, **settings):
    cfg = Config(dict(work_dir=str(folder), **settings))
    prepare_resume(cfg)
    return cfg.get('resume'), cfg.get('load_from')


def test_a_folder_with_checkpoints_is_refused(folder, monkeypatch):
    message = r'work holds another run: epoch_10.pth, epoch_9.pth, last written 1970-01-01 .*'
    with pytest.raises(FileExistsError, match=message + 'by --resume .* --work-dir, or delete'):
        resumed(folder)
    # load_from alone does not resume.
    with pytest.raises(FileExistsError):
        resumed(folder, load_from=str(folder / 'epoch_9.pth'))
    # Only the first process reports.
    monkeypatch.setenv('RANK', '1')
    assert resumed(folder, launcher='pytorch') == (None, None)
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(FileExistsError):
        resumed(folder, launcher='pytorch')


def test_without_checkpoints_a_folder_is_free(tmp_path):
    (tmp_path / '20260101_000000').mkdir()
    assert resumed(tmp_path) == resumed(tmp_path / 'new') == (None, None)


def test_without_a_name_the_choice_is_left_to_the_hook(folder):
    assert resumed(folder, resume=True) == (True, None)


def test_a_named_checkpoint_is_searched_here_and_in_the_folder(folder):
    named = resumed(folder, resume=True, load_from='epoch_9.pth')
    assert named == (True, str(folder / 'epoch_9.pth'))
    here = resumed(folder, resume=True, load_from='work/epoch_9.pth')
    assert here == (True, 'work/epoch_9.pth')
    message = 'no checkpoint .*epoch_8.pth. In that folder: epoch_10.pth, epoch_9.pth'
    with pytest.raises(FileNotFoundError, match=message):
        resumed(folder, resume=True, load_from='epoch_8.pth')


def test_a_named_checkpoint_must_be_intact(folder):
    whole = (folder / 'epoch_10.pth').read_bytes()
    (folder / 'epoch_11.pth').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match='epoch_11.pth is truncated: .* Give another checkpoint'):
        resumed(folder, resume=True, load_from='epoch_11.pth')


def test_a_checkpoint_from_elsewhere_needs_a_folder_of_its_own(folder, tmp_path):
    torch.save({}, tmp_path / 'epoch_5.pth')
    with pytest.raises(FileExistsError, match='holds another run'):
        resumed(folder, resume=True, load_from='epoch_5.pth')
    assert resumed(tmp_path / 'new', resume=True, load_from='epoch_5.pth')[0]


def test_who_stops_a_run_learns_resume_instructions(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'my config.py'])
    text = resume_instructions(Config(dict(work_dir=str(folder))))
    assert 'epoch_10.pth' in text and text.endswith("tools/train.py 'my config.py' --resume")
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'c.py', '--resume'])
    assert resume_instructions(Config(dict(work_dir=str(folder)))).endswith('c.py --resume')
    for launched in (dict(launcher='pytorch'), dict(default_hooks=dict(checkpoint=None))):
        assert 'To resume' in resume_instructions(Config(dict(work_dir=str(folder), **launched)))
    several = resume_instructions(Config(dict(work_dir=str(folder), launcher='pytorch')))
    assert several.endswith('start the processes again with --resume.')
    monkeypatch.setattr('sys.argv', ['my_script.py'])
    text = resume_instructions(Config(dict(work_dir=str(folder))))
    assert text.endswith(f'mmselfsup_invp.train(..., {str(folder)!r}, resume=True).')
    nothing = Config(dict(work_dir=str(tmp_path / 'new'), default_hooks=dict(checkpoint=None)))
    assert 'no checkpoint yet' in resume_instructions(nothing)
    hooks = dict(checkpoint=dict(interval=10))
    text = resume_instructions(Config(dict(work_dir=str(tmp_path / 'new'), default_hooks=hooks)))
    assert 'no checkpoint yet (default_hooks.checkpoint.interval = 10)' in text
