"""Training by tools/train.py: new runs, resumed runs, interrupts and the arguments."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmselfsup_invp.checkpoint_files import damage_of
from mmselfsup_invp.cli.training import load_config

from .. import toy

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'train.py'
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """A config file for a run of one epoch that saves a checkpoint."""
    folder = tmp_path_factory.mktemp('train') / 'toys'
    images = toy.image_folder(folder.parent / 'images', images=16)
    whole = toy.runner_config(images, folder, 1, default_hooks=dict(checkpoint=dict(interval=1)))
    whole.pop('work_dir')
    folder.mkdir()
    whole.dump(folder / 'toy.py')
    return folder / 'toy.py'


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.slow
def test_train_and_resume(config, tmp_path):
    work_dir = tmp_path / 'my work'
    options = ['--cfg-options', f'work_dir={work_dir}', 'model.memory.momentum=0.9']
    done = run(config, *options, 'train_dataloader.batch_size=4', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    used = Config.fromfile(work_dir / 'toy.py')
    assert used.model.memory.momentum == 0.9 and used.train_dataloader.batch_size == 4
    assert used.launcher == 'none'
    first = torch.load(work_dir / 'epoch_1.pth')
    assert first['meta']['iter'] == 4  # 16 images in batches of 4.
    assert first['state_dict']['memory.bank'].shape == (16, toy.DIM)
    assert not (tmp_path / 'work_dirs').exists()

    # The data set of a resumed run is the same, its batches may be others.
    done = run(config, *options, 'train_cfg.max_epochs=2', '--resume', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 1, iter: 2' in done.stdout + done.stderr  # Of batches of 8.
    second = torch.load(work_dir / 'epoch_2.pth')
    assert second['meta']['iter'] == 2 + 2
    assert not torch.equal(first['state_dict']['memory.bank'], second['state_dict']['memory.bank'])


def test_errors_come_alone_or_last(config, tmp_path):
    (tmp_path / 'epoch_7.pth').write_text('another run')
    done = run(config, '--work-dir', tmp_path, cwd=tmp_path)
    assert done.returncode == 1 and 'holds another run: epoch_7.pth' in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.lock', 'epoch_7.pth']

    options = ['--work-dir', tmp_path / 'work', '--cfg-options']
    done = run(config, *options, 'model.head.hop=2', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback (most' not in done.stdout + done.stderr
    assert 'error: model.head (InvPHead) has no option hop (= 2). Did you mean' in done.stderr

    done = run(config, *options, 'model.memory.num_neighbours=20', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback (most' not in done.stdout + done.stderr
    error, place = done.stderr.strip().splitlines()[-2:]
    assert error.startswith('error: A memory of 16 rows cannot give 20 neighbours')
    log = Path(place.removeprefix('Traceback: '))
    assert log.is_relative_to(tmp_path / 'work') and 'Traceback (most' in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_answered_with_the_command_to_resume(config, tmp_path, number):
    """In the second epoch; before, a second run in the folder is refused."""
    work_dir = tmp_path / 'work'
    options = ['--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=100000']
    command = [sys.executable, str(SCRIPT), str(config), *map(str, options)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not (work_dir / 'last_checkpoint').is_file():
            time.sleep(0.1)
        if number == signal.SIGTERM:
            second = run(config, '--work-dir', work_dir, '--resume', cwd=tmp_path)
            assert second.returncode == 1
            assert f'work is in use by process {process.pid} on ' in second.stderr
        process.send_signal(number)
        text = process.stderr.read().decode()
    assert process.returncode == 128 + number, text
    assert 'Traceback (most' not in text
    assert 'The latest checkpoint is' in text and text.strip().endswith('=100000 --resume')
    assert damage_of(work_dir / (work_dir / 'last_checkpoint').read_text()) is None


class TestLoadConfig:
    @pytest.fixture
    def load(self, config):
        """Load the config with arguments of the command line."""

        def load(config=config, **arguments):
            default = dict(work_dir=None, amp=False, auto_scale_lr=False, resume=None)
            default |= dict(images=None, log_to=None)
            args = dict(default, config=str(config), cfg_options={}, launcher='none')
            return load_config(Namespace(**{**args, **arguments}))

        return load

    def test_the_work_folder_is_named_after_the_config(self, load):
        assert load().work_dir == str(Path('work_dirs') / 'toys' / 'toy')
        assert load(cfg_options=dict(work_dir='here')).work_dir == 'here'
        assert load(cfg_options=dict(work_dir='here'), work_dir='there').work_dir == 'there'

    def test_a_config_of_an_installed_package_is_found_by_its_name(self, load):
        name = 'resnet50_linear-8xb32-steplr-100e_in1k'
        cfg = load(f'mmselfsup::benchmarks/classification/imagenet/{name}.py')
        assert cfg.model.type == 'ImageClassifier' and cfg.model.backbone.frozen_stages == 4
        assert cfg.work_dir == str(Path('work_dirs') / 'imagenet' / name)

    def test_options_are_merged(self, load):
        options = {'optim_wrapper.optimizer.lr': '0.5', 'model.backbone.out_indices': '(1,)'}
        cfg = load(cfg_options=options)
        assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.5, momentum=0.9)
        assert cfg.model.backbone.out_indices == (1,)

    @pytest.mark.parametrize(
        ('value', 'resume', 'path'),
        [(None, None, None), ('auto', True, None), ('some/e_3.pth', True, 'some/e_3.pth')],
    )
    def test_resume(self, load, value, resume, path):
        cfg = load(resume=value)
        assert cfg.get('resume') == resume and cfg.get('load_from') == path

    def test_amp(self, load):
        assert load().optim_wrapper.type == 'OptimWrapper'
        cfg = load(amp=True)
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
        assert cfg.optim_wrapper.loss_scale == 'dynamic'
        options = {'optim_wrapper.loss_scale': '512.0'}
        assert load(amp=True, cfg_options=options).optim_wrapper.loss_scale == 512
        with pytest.raises(ValueError, match="optim_wrapper.type = 'ApexOptimWrapper'"):
            load(amp=True, cfg_options={'optim_wrapper.type': 'ApexOptimWrapper'})

    @pytest.mark.skipif(torch.cuda.is_available(), reason='mixed precision works on a GPU')
    def test_amp_needs_a_gpu(self, load, tmp_path):
        cfg = load(amp=True, work_dir=str(tmp_path))
        with pytest.raises(AssertionError, match='only available training on gpu'):
            Runner.from_cfg(cfg).train()
        assert not list(tmp_path.rglob('*.pth'))

    def test_the_learning_rate_is_scaled(self, load, tmp_path):
        with pytest.raises(ValueError, match='needs auto_scale_lr.base_batch_size'):
            load(auto_scale_lr=True)
        options = {
            'auto_scale_lr.base_batch_size': '32',
            'train_dataloader.batch_size': '8',
            'optim_wrapper.optimizer.lr': '0.5',
        }
        cfg = load(auto_scale_lr=True, cfg_options=options, work_dir=str(tmp_path))
        runner = Runner.from_cfg(cfg)
        runner.train()
        (group,) = runner.optim_wrapper.param_groups
        assert group['initial_lr'] == pytest.approx(0.5 * 8 / 32)
