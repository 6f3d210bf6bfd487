"""Training in several processes on CPUs, as torchrun and tools/dist_train.sh start it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .. import toy
from .test_train import ENVIRONMENT, ROOT

pytestmark = [
    pytest.mark.slow,  # Several processes are started.
    pytest.mark.skipif(torch.cuda.is_available(), reason='is for machines without a GPU'),
]

# A hook by which the second process fails in its third step, if the environment asks for it.
FAILING = """
import os, signal
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Failing(Hook):
    def after_train_iter(self, runner, **_):
        if get_rank() == 1 and runner.iter == 2:
            if os.environ.get('FAIL') == 'error':
                raise ValueError('image 7 cannot be read')
            if os.environ.get('FAIL') == 'kill':
                os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    """A config of InvP with split rows, whose second process can be made to fail."""
    folder = tmp_path_factory.mktemp('processes')
    (folder / 'failing.py').write_text(FAILING)
    images = toy.image_folder(folder / 'images', images=16)
    changes = dict(
        custom_imports=dict(imports=['failing'], allow_failed_imports=False),
        default_hooks=dict(checkpoint=dict(interval=1)),
        custom_hooks=[dict(type='Failing'), dict(type='PropagationMemoryHook', ramp='constant')],
        model=dict(memory=dict(shard=True)),
    )
    whole = toy.runner_config(images, folder, 2, **changes)
    whole.pop('work_dir')
    whole.dump(folder / 'split.py')
    return folder / 'split.py'


def run(*words: object, config: Path, **variables: str) -> subprocess.CompletedProcess:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(config.parent), ENVIRONMENT['PYTHONPATH']])
    environment = {**ENVIRONMENT, 'PYTHONPATH': path, 'PORT': str(port), **variables}
    environment['PYTHON'] = sys.executable
    command = list(map(str, words))
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


def launch(
    config: Path, work_dir: Path, *options: str, fail: str = ''
) -> subprocess.CompletedProcess:
    """Train by tools/dist_train.sh in two processes."""
    words = ('bash', ROOT / 'tools' / 'dist_train.sh', config, 2, '--work-dir', work_dir, *options)
    return run(*words, config=config, FAIL=fail)


def test_training_resuming_and_another_number_of_processes(config, tmp_path):
    done = launch(config, tmp_path, '--cfg-options', 'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr
    saved = torch.load(tmp_path / 'epoch_1.pth')
    assert saved['meta']['iter'] == 1  # 16 images in batches of 8, on each of two processes.
    assert saved['state_dict']['memory.bank'].shape == (16, toy.DIM)
    assert (saved['state_dict']['memory.neighbours'] >= 0).all()
    done = run(
        *(sys.executable, ROOT / 'tools' / 'train.py', config),
        *('--work-dir', tmp_path, '--resume'),
        config=config,
    )
    assert done.returncode == 0, done.stderr
    # The iterations of this run, of which an epoch has two.
    assert torch.load(tmp_path / 'epoch_2.pth')['meta']['iter'] == 2 + 2


@pytest.mark.parametrize(
    ('how', 'cause'), [('error', 'error: image 7 cannot be read'), ('kill', 'SIGKILL')]
)
def test_a_process_that_fails_ends_the_job_with_its_cause(config, tmp_path, how, cause):
    done = launch(config, tmp_path, '--cfg-options', 'train_dataloader.batch_size=2', fail=how)
    assert done.returncode == 1
    assert cause in done.stderr
    # torchrun names the process.
    assert 'rank      : 1 (local_rank: 1)' in done.stderr


def test_processes_need_a_launcher(config, tmp_path):
    done = run(
        *(sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2),
        *(ROOT / 'tools' / 'train.py', config, '--work-dir', tmp_path),
        config=config,
    )
    assert done.returncode == 1 and 'Add --launcher pytorch' in done.stderr
    assert not list(tmp_path.iterdir())


def test_other_launchers_need_a_gpu(config, tmp_path):
    done = run(
        *(sys.executable, ROOT / 'tools' / 'train.py', config),
        *('--work-dir', tmp_path, '--launcher', 'slurm'),
        config=config,
    )
    assert done.returncode == 1 and 'starts runs on accelerators only' in done.stderr
