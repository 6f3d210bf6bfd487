"""The page of tools/doctor.py and of tools/train.py --dry-run, and their exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from .. import toy
from .test_train import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> Path:
    return toy.image_folder(tmp_path_factory.mktemp('photos') / 'photos', images=70) / 'train'


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


def test_images(photos, tmp_path):
    done = run(
        ROOT / 'tools/doctor.py', '--images', photos, '--recipe', 'image_size=32', cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'image_size = 32' in done.stdout and done.stdout.endswith('The run can start.\n')
    assert len(done.stdout.splitlines()) < 35
    written = [path.name for path in (tmp_path / 'work_dirs/images/train').iterdir()]
    assert written == ['recipe.py']


def test_a_config_that_cannot_start(photos, tmp_path):
    toy.runner_config(photos.parent, tmp_path / 'work').dump(tmp_path / 'toy.py')
    options = ['--cfg-options', 'model.memory.num_neighbours=99']
    for tool, flag in (('doctor', []), ('train', ['--dry-run'])):
        done = run(ROOT / f'tools/{tool}.py', tmp_path / 'toy.py', *flag, *options, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert 'A memory of 70 rows cannot give 99 neighbours' in done.stdout
    assert not (tmp_path / 'work').exists()


def test_a_config_or_images_must_be_given(tmp_path):
    done = run(ROOT / 'tools/doctor.py', cwd=tmp_path)
    assert (
        done.returncode == 2 and 'one of the arguments config --images is required' in done.stderr
    )


def test_settings_for_images_do_not_change_a_config(tmp_path):
    config = ROOT / 'configs/invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py'
    result = run(ROOT / 'tools/train.py', config, '--recipe', 'epochs=3', cwd=tmp_path)
    assert result.returncode == 2 and '--recipe belongs to --images FOLDER' in result.stderr
