"""The second host: the tests of the methods and the results of a run with MMPretrain."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Created by `make hosts`; the variable names the Python of another environment with MMPretrain.
MMPRETRAIN = os.environ.get(
    'MMSELFSUP_INVP_MMPRETRAIN', str(ROOT / '.venv-mmpretrain' / 'bin' / 'python')
)
TESTS = (
    *('tests/compat/test_mmpretrain.py', 'tests/test_structures.py'),
    *('tests/models/test_algorithms.py', 'tests/models/test_interclr.py'),
    *('tests/models/test_sela.py', 'tests/engine/test_reproducibility.py'),
    *('tests/engine/test_knn_eval_hook.py', 'tests/engine/test_propagation_memory_hook.py'),
)
CONFIGS = (
    'invp/invp_resnet18-slim_1xb32-coslr-50e_digits.py',
    'interclr/interclr-npid_resnet18-slim_1xb32-coslr-50e_digits.py',
    'sela/sela_resnet18-slim_1xb32-coslr-50e_digits.py',
)
TIMES = {'time', 'data_time'}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(MMPRETRAIN).exists(),
        reason='needs an environment with MMPretrain: make hosts',
    ),
]


def run(python: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a Python on one thread, so that sums are rounded in the same order."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
    command = [python, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def test_the_environment_has_the_other_host():
    code = 'from mmselfsup_invp import compat; print(compat.host_name())'
    assert run(MMPRETRAIN, '-c', code).stdout == 'mmpretrain\n'


def test_the_tests_of_the_methods_pass():
    """Models, hooks, kNN evaluation and resuming, by the tests that MMSelfSup passes."""
    done = run(MMPRETRAIN, '-m', 'pytest', '-q', '-m', 'not slow', *TESTS)
    assert ' passed' in done.stdout


@pytest.fixture(scope='module')
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of the handwritten digits."""
    root = str(tmp_path_factory.mktemp('digits'))
    run(sys.executable, 'tools/convert_dataset.py', 'digits', root)
    return root


@pytest.mark.parametrize('config', CONFIGS)
def test_an_epoch_gives_the_same_log_to_the_last_digit(config, digits, tmp_path):
    logs = []
    for name, python in (('mmselfsup', sys.executable), ('mmpretrain', MMPRETRAIN)):
        loaders = ('default_hooks.knn.query_dataloader', 'default_hooks.knn.gallery_dataloader')
        if config.startswith('interclr'):
            loaders += ('default_hooks.clusters.extract_dataloader',)
        roots = [f'{each}.dataset.data_root={digits}' for each in ('train_dataloader', *loaders)]
        options = ['--cfg-options', 'train_cfg.max_epochs=1', *roots]
        if config.startswith('sela'):  # Not all events of 50 epochs in one.
            options.append('default_hooks.self_label.num_events=2')
        work_dir = tmp_path / name
        run(python, 'tools/train.py', f'configs/{config}', '--work-dir', str(work_dir), *options)
        logs.append(read_log(work_dir))
    assert any('loss' in line for line in logs[0]) and any('knn' in str(line) for line in logs[0])
    assert logs[0] == logs[1]


def read_log(work_dir: Path) -> list[dict]:
    """The lines of a run's log without what it measured of the time."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    lines = map(json.loads, path.read_text().splitlines())
    return [{key: line[key] for key in line if key not in TIMES} for line in lines]
