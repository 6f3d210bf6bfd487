"""Training on a folder without a config, by the function and by the command line."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmselfsup_invp
from mmselfsup_invp.cli import images

from .. import toy

SMALL = dict(image_size=32, epochs=1, num_workers=0)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Seventy images and one that cannot be read."""
    folder = toy.image_folder(tmp_path_factory.mktemp('photos') / 'photos', images=70) / 'train'
    (folder / '007.png').write_bytes(b'broken')
    return folder


@pytest.mark.slow
def test_train_and_resume(photos, tmp_path, capsys):
    work_dir = mmselfsup_invp.train(photos, tmp_path / 'work', **SMALL)
    state = torch.load(work_dir / 'epoch_1.pth')['state_dict']
    assert state['memory.bank'].shape == (70, 128)
    lines = capsys.readouterr().out.splitlines()
    first = next(row for row, line in enumerate(lines) if 'Epoch 1/1 ' in line)
    assert first < 30 and any('1 of 70 images cannot be read' in line for line in lines)
    assert 'epochs = 1' in lines
    recipe = (work_dir / 'recipe.py').read_text()
    assert Config.fromfile(work_dir / 'recipe.py').epochs == 1
    assert Config.fromfile(work_dir / 'config.py').train_cfg.max_epochs == 1

    options = {'train_cfg.max_epochs': 2}
    mmselfsup_invp.train(photos, work_dir, resume=True, options=options)
    assert (work_dir / 'epoch_2.pth').is_file()
    assert (work_dir / 'recipe.py').read_text() == recipe
    assert 'which exists. Delete it to choose them again' in capsys.readouterr().out


def arguments(photos, work_dir, **changes):
    from argparse import Namespace

    default = dict(images=str(photos), work_dir=str(work_dir), recipe=None, launcher='none')
    return Namespace(**{**default, **changes})


def test_a_recipe_is_not_overwritten(photos, tmp_path):
    images.use_images(arguments(photos, tmp_path))
    path = tmp_path / 'recipe.py'
    path.write_text(path.read_text().replace('depth = 18', 'depth = 34'))
    images.use_images(arguments(photos, tmp_path))
    assert 'depth = 34' in path.read_text()
    with pytest.raises(FileExistsError, match='has other settings'):
        images.use_images(arguments(photos, tmp_path, recipe=dict(epochs='3')))


def test_settings_replace_chosen_ones_until_a_run_has_used_them(photos, tmp_path):
    path = tmp_path / 'recipe.py'
    images.use_images(arguments(photos, tmp_path))  # As by tools/doctor.py.
    images.use_images(arguments(photos, tmp_path, recipe=dict(epochs='3')))
    assert Config.fromfile(path).epochs == 3
    path.unlink()
    images.use_images(arguments(photos, tmp_path))
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises(FileExistsError, match='has other settings'):
        images.use_images(arguments(photos, tmp_path, recipe=dict(epochs='3')))
    assert Config.fromfile(path).epochs == 200


def test_a_recipe_for_other_images_is_refused(photos, tmp_path):
    images.use_images(arguments(photos, tmp_path / 'work'))
    (tmp_path / 'train').symlink_to(photos)  # The same images by another path are the same.
    images.use_images(arguments(tmp_path / 'train', tmp_path / 'work'))
    with pytest.raises(FileExistsError, match='is for other images'):
        images.use_images(arguments(photos.parent, tmp_path / 'work'))


def test_the_work_folder_is_named_after_the_images(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = arguments(photos, '')
    images.use_images(args)
    assert (
        args.config == str(Path('work_dirs/images/train/recipe.py')) and Path(args.config).is_file()
    )


def test_several_processes_need_a_config(photos, tmp_path):
    with pytest.raises(ValueError, match='--images FOLDER --dry-run'):
        images.use_images(arguments(photos, tmp_path, launcher='pytorch'))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.* does not exist'):
        images.use_images(arguments(tmp_path / 'nowhere', tmp_path))


@pytest.mark.slow
def test_two_runs_of_a_process_log_to_their_own_folders(photos, tmp_path):
    options = {'train_dataloader.num_workers': 0}
    for name in ('one', 'two'):
        mmselfsup_invp.train(photos, tmp_path / name, options=options, image_size=32, epochs=1)
        assert list((tmp_path / name).glob('*/vis_data/scalars.json')), name
