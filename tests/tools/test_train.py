import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from .. import toy

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'train.py'


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """A config file for a run of one epoch that saves itself."""
    folder = tmp_path_factory.mktemp('train') / 'toys'
    images = toy.image_folder(folder.parent / 'images', images=16)
    whole = toy.runner_config(images, folder, 1, default_hooks=dict(checkpoint=dict(interval=1)))
    whole.pop('work_dir')
    folder.mkdir()
    whole.dump(folder / 'toy.py')
    return folder / 'toy.py'


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_train_and_resume(config, tmp_path):
    work_dir = tmp_path / 'work'
    options = ['--work-dir', work_dir, '--cfg-options', 'model.memory.momentum=0.9']
    done = run(config, *options, 'train_dataloader.batch_size=4', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    used = Config.fromfile(work_dir / 'toy.py')
    assert used.model.memory.features.momentum == 0.9 and used.train_dataloader.batch_size == 4
    assert used.launcher == 'none'
    first = torch.load(work_dir / 'epoch_1.pth')
    assert first['meta']['iter'] == 4  # 16 images in batches of 4.
    assert first['state_dict']['memory.bank'].shape == (16, toy.DIM)
    assert not (tmp_path / 'work_dirs').exists()

    # The data set of a resumed run is the same, but its batches may be others.
    done = run(config, *options, 'train_cfg.max_epochs=2', '--resume', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 1, iter: 4' in done.stdout + done.stderr
    second = torch.load(work_dir / 'epoch_2.pth')
    assert second['meta']['iter'] == 4 + 2
    assert not torch.equal(first['state_dict']['memory.bank'], second['state_dict']['memory.bank'])


def test_a_folder_with_another_run_is_left_alone(config, tmp_path):
    (tmp_path / 'epoch_7.pth').write_text('precious')
    done = run(config, '--work-dir', tmp_path, cwd=tmp_path)
    assert done.returncode == 1 and 'holds a run already: epoch_7.pth' in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_7.pth']


def test_what_is_wrong_is_said_alone_or_last(config, tmp_path):
    done = run(tmp_path / 'nowhere.py', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback (most' not in done.stderr
    assert 'error: There is no config' in done.stderr and not done.stdout

    options = ['--work-dir', tmp_path / 'work', '--cfg-options', 'model.head.hop=2']
    done = run(config, *options, cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback (most' not in done.stdout + done.stderr
    error, place = done.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: InvPHead has no option 'hop'. Did you mean hops?")
    log = Path(place.removeprefix('Traceback: '))
    assert log.is_relative_to(tmp_path / 'work') and 'Traceback (most' in log.read_text()


def test_who_stops_a_run_learns_how_to_go_on(config, tmp_path):
    """As by Ctrl-C, in the second epoch."""
    work_dir = tmp_path / 'work'
    options = ['--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=100000']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(SCRIPT), str(config), *map(str, options)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not (work_dir / 'last_checkpoint').is_file():
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
    assert process.returncode == 130, said
    assert 'Traceback (most' not in said
    assert 'The latest checkpoint is' in said and said.strip().endswith('=100000 --resume')


class TestCommandLine:
    @pytest.fixture
    def load(self, config, monkeypatch):
        """Parse a command line and load the config in this process."""
        spec = importlib.util.spec_from_file_location('train_tool', SCRIPT)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        # The tool sets it, where no launcher did.
        monkeypatch.setenv('LOCAL_RANK', '7')

        def load(*words, name=config):
            monkeypatch.setattr(sys, 'argv', ['train.py', str(name), *words])
            return tool.load_config(tool.parse_args())

        return load

    def test_the_work_folder_is_named_after_the_config(self, load):
        assert load().work_dir == str(Path('work_dirs') / 'toys' / 'toy')
        assert load('--cfg-options', 'work_dir=here').work_dir == 'here'
        assert load('--cfg-options', 'work_dir=here', '--work-dir', 'there').work_dir == 'there'

    def test_a_config_of_an_installed_package_is_found_by_its_name(self, load):
        name = 'resnet50_linear-8xb32-steplr-100e_in1k'
        cfg = load(name=f'mmselfsup::benchmarks/classification/imagenet/{name}.py')
        assert cfg.model.type == 'ImageClassifier' and cfg.model.backbone.frozen_stages == 4
        assert cfg.work_dir == str(Path('work_dirs') / 'imagenet' / name)

    def test_options_are_merged(self, load):
        cfg = load(
            '--cfg-options', 'optim_wrapper.optimizer.lr=0.5', 'model.backbone.out_indices=(1,)'
        )
        assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.5, momentum=0.9)
        assert cfg.model.backbone.out_indices == (1,)

    @pytest.mark.parametrize(
        ('words', 'resume', 'path'),
        [
            ([], None, None),
            (['--resume'], True, None),
            (['--resume', 'some/epoch_3.pth'], True, 'some/epoch_3.pth'),
        ],
    )
    def test_resume(self, load, words, resume, path):
        cfg = load(*words)
        assert cfg.get('resume') == resume and cfg.get('load_from') == path

    def test_amp(self, load):
        assert load('--amp').optim_wrapper.type == 'AmpOptimWrapper'
        assert load('--amp').optim_wrapper.loss_scale == 'dynamic'
        options = ['--cfg-options', 'optim_wrapper.loss_scale=512.0']
        assert load('--amp', *options).optim_wrapper.loss_scale == 512
        assert load().optim_wrapper.type == 'OptimWrapper'

    @pytest.mark.skipif(torch.cuda.is_available(), reason='here it works')
    def test_amp_without_a_gpu_says_why(self, load, tmp_path):
        cfg = load('--amp', '--work-dir', str(tmp_path))
        with pytest.raises(AssertionError, match='only available training on gpu'):
            Runner.from_cfg(cfg).train()
        assert not list(tmp_path.rglob('*.pth'))

    def test_amp_with_another_wrapper_is_refused(self, load):
        with pytest.raises(ValueError, match="optim_wrapper.type = 'ApexOptimWrapper'"):
            load('--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper')

    @pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
    def test_a_launchers_rank_is_kept(self, load, monkeypatch, spelling):
        load(spelling, '3')
        assert os.environ['LOCAL_RANK'] == '7'
        monkeypatch.delenv('LOCAL_RANK')
        assert load(spelling, '3').launcher == 'none'
        assert os.environ['LOCAL_RANK'] == '3'
