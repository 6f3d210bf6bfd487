import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from ..command import TOOLS, run_tool
from ..toy import build_runner, image_folder

ROOT = Path(__file__).resolve().parents[2]

KNN = """
pipeline = [dict(type='LoadImage'), dict(type='mmcls.PackClsInputs')]
default_scope = 'mmselfsup'
num_classes, pool_size = 3, 1
loaders = {{
    split: dict(
        batch_size=12,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmselfsup_invp.default_collate'),
        dataset=dict(
            type='mmcls.CustomDataset',
            data_root='{root}',
            ann_file=f'meta/{{split}}.txt',
            data_prefix=dict(img_path=split),
            pipeline=pipeline,
        ),
    )
    for split in ('train', 'test')
}}
train_dataloader, test_dataloader = loaders['train'], loaders['test']
benchmark = dict(
    name='toy-knn', title='a toy', kind='knn', data='toy',
    options=dict(k=5, temperature=0.1), published=dict(paper=12.5),
)
"""


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A checkpoint and the config of a benchmark."""
    root = tmp_path_factory.mktemp('project')
    images = image_folder(root / 'data')
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    build_runner(images, root / 'run', 1, default_hooks=hooks).train()
    (root / 'knn.py').write_text(KNN.format(root=images))
    return root


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process."""
    return partial(run_tool, 'benchmark.py', monkeypatch=monkeypatch, capture=capsys)


def test_the_list_has_every_protocol_of_the_papers(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # Without data.
    listed = call('--list').out
    for name in (
        *('imagenet-linear', 'places205-linear', 'voc07-svm', 'voc07-lowshot', 'voc07-linear'),
        *('imagenet-1percent', 'imagenet-10percent', 'imagenet-knn', 'transfer-cifar10'),
        *('transfer-cifar100', 'transfer-voc07', 'transfer-caltech101', 'transfer-cars'),
        *('transfer-pets', 'transfer-flowers'),
    ):
        assert f' {name} ' in f' {" ".join(listed.split())} '
    assert len(listed.splitlines()) <= 24
    described = call('--list', 'voc07').out
    assert 'voc07-svm' in described and 'SVMs' in described
    assert 'imagenet' not in described


def test_the_list_says_whose_data_are_ready(call, monkeypatch, tmp_path):
    def states():
        """Protocols of the first line of each row, by folder and state."""
        lines = map(str.split, call('--list').out.splitlines())
        return {(line[0], line[1]): line[2:] for line in lines if {'yes', 'no'} & {*line[1:2]}}

    monkeypatch.chdir(tmp_path)
    assert {state for _, state in states()} == {'no'}
    image_folder(tmp_path / 'data' / 'digits')
    image_folder(tmp_path / 'data' / 'cars')
    assert [*states()].count(('digits', 'yes')) == 1 and ('digits', 'no') not in states()
    assert states()['transfer', 'yes'] == ['transfer-cars']
    assert 'custom-knn' in states()['custom', 'no']
    assert ' no ' in call('--list', 'custom-knn').out
    assert ' yes ' in call('--list', 'custom-knn', '--data', tmp_path / 'data').out


def test_a_result_is_written_once(call, project):
    arguments = (project / 'run' / 'epoch_1.pth', '--protocol', project / 'knn.py')
    first = call(*arguments)
    assert first.returncode == 0, first.err
    out = project / 'run' / 'benchmarks'
    (result,) = out.glob('toy-knn_epoch_1_*.json')
    entry = json.loads(result.read_text())
    assert entry['metric'] == 'k5_t0.1' and f'{entry["value"]:.2f}' in first.out
    assert 'paper: 12.5' in (out / 'results.md').read_text()

    result.write_text(json.dumps({**entry, 'value': 1.25}))
    assert 'toy-knn: 1.25, finished before' in call(*arguments).out
    random = call(*arguments, '--random-init')
    assert random.returncode == 0, random.err
    table = (out / 'results.md').read_text().splitlines()
    assert len(table) == 4 and 'random initialisation' in table[3]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(checkpoint='epoch_7.pth'), 'epoch_7.pth. In that folder: epoch_1.pth'),
        (dict(protocol='imagenet'), "no protocol 'imagenet'. Valid: .*imagenet-linear"),
        (dict(protocol='mine.py'), 'There is no config mine.py'),
        (dict(data='elsewhere'), 'toy: not complete, .*docs/en/data.md describes'),
        (dict(options='benchmark.optins.k=3'), "'optins'.*Its keys: name"),
        (dict(options='benchmark.options.kk=3'), "'knn'.: WeightedKNN has no option kk"),
    ],
)
def test_mistakes_end_in_one_message(call, project, changes, message):
    checkpoint = project / 'run' / changes.get('checkpoint', 'epoch_1.pth')
    protocol = changes.get('protocol', project / 'knn.py')
    more = ('--data', changes['data']) if 'data' in changes else ()
    more += ('--cfg-options', changes['options']) if 'options' in changes else ()
    done = call(checkpoint, '--protocol', protocol, '--out', project / 'other', *more)
    assert done.returncode == 1 and 'Traceback (most' not in done.err
    assert re.search(message, done.err), done.err


def test_the_result_of_another_checkpoint_is_not_shown(call, project, tmp_path):
    """The same name, as after training anew into the same folder."""
    path, out = tmp_path / 'epoch_1.pth', tmp_path / 'benchmarks'
    shutil.copy(project / 'run' / 'epoch_1.pth', path)
    arguments = (path, '--protocol', project / 'knn.py')
    assert call(*arguments).returncode == 0
    checkpoint = torch.load(path, weights_only=True)
    for value in checkpoint['state_dict'].values():
        value.mul_(-1)
    torch.save(checkpoint, path)
    again = call(*arguments)
    assert again.returncode == 0 and 'finished before' not in again.out
    entries = [json.loads(file.read_text()) for file in out.glob('*.json')]
    assert len(entries) == len({entry['provenance']['checkpoint'] for entry in entries}) == 2

    changed = ('--cfg-options', 'benchmark.options.k=1')
    assert call(*arguments, *changed).returncode == 0
    table = (out / 'results.md').read_text()
    assert '| k1_t0.1 |' in table and 'not comparable: benchmark.options.k=1' in table
    (result,) = (file for file in out.glob('*.json') if 'k1_t0.1' in file.read_text())
    before = result.read_text()
    result.write_text(before.replace('"value": ', '"value": 100'))
    assert call(*arguments, *changed, '--force').returncode == 0
    assert result.read_text() == before


SLOW = """
import time
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Slow(BaseTransform):
    def transform(self, results):
        print('started', flush=True)
        time.sleep(60)
"""


def test_an_interrupt_ends_in_one_message(project, tmp_path):
    (tmp_path / 'slow.py').write_text(SLOW)
    config = KNN.format(root=project / 'data').replace("'LoadImage'", "'mmengine.Slow'")
    config += "custom_imports = dict(imports=['slow'])\n"
    (tmp_path / 'knn.py').write_text(config)
    checkpoint = project / 'run' / 'epoch_1.pth'
    command = [sys.executable, TOOLS / 'benchmark.py', checkpoint, '--protocol']
    process = subprocess.Popen(
        [*map(str, command), str(tmp_path / 'knn.py'), '--out', str(tmp_path / 'out')],
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if 'started' in line:
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and 'Traceback' not in errors
    assert errors.strip().splitlines()[-1] == 'Interrupted. The same command continues.'


def test_a_failed_run_may_be_started_again_with_a_changed_config(call, project, tmp_path):
    arguments = (project / 'run' / 'epoch_1.pth', '--protocol', project / 'knn.py')
    arguments += ('--out', tmp_path / 'out')
    failed = call(*arguments, '--cfg-options', 'num_classes=2')
    assert failed.returncode == 1 and 'The config says 2 classes' in failed.err
    assert not list((tmp_path / 'out').glob('*.json'))
    for changes in ((), ('--cfg-options', 'num_classes=4')):
        done = call(*arguments, *changes)
        assert done.returncode == 0 and 'finished before' not in done.out, done.err
    assert len(list((tmp_path / 'out').glob('*.json'))) == 2


def test_class_folders_need_a_folder_alone(call, project, tmp_path):
    """Of the command line: the folder, the table with interval and references."""
    images = project / 'data' / 'train'
    for number, image in enumerate(sorted(images.glob('*.png'))):
        folder = tmp_path / 'mine' / 'abc'[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder)
    arguments = (project / 'run' / 'epoch_1.pth', '--protocol', 'custom-knn')
    arguments += ('--out', tmp_path / 'out')
    missing = call(*arguments, '--data', tmp_path / 'nothing')
    assert missing.returncode == 1 and 'a folder of its own' in missing.err
    done = call(*arguments, '--data', tmp_path / 'mine')
    assert done.returncode == 0, done.err
    table = (tmp_path / 'out' / 'results.md').read_text()
    assert re.search(
        r'\| top1 \| [\d.]+ \([\d.]+ to [\d.]+\) .* majority class: 33.33; untrained: ', table
    )


def test_all_protocols_are_checked_before_the_first_one_runs(call, project, tmp_path):
    second = KNN.format(root=tmp_path / 'nothing').replace('toy-knn', 'toy-second')
    (tmp_path / 'second.py').write_text(second)
    protocols = ('--protocol', project / 'knn.py', tmp_path / 'second.py')
    done = call(project / 'run' / 'epoch_1.pth', *protocols, '--out', tmp_path / 'out')
    assert done.returncode == 1 and 'not complete' in done.err
    assert 'toy-knn' not in done.out and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('workers', [0, 1])
def test_a_truncated_image_is_named(call, project, tmp_path, workers):
    images = image_folder(tmp_path / 'data')
    broken = images / 'train' / '005.png'
    broken.write_bytes(broken.read_bytes()[:60])
    config = KNN.format(root=images).replace('num_workers=0', f'num_workers={workers}')
    (tmp_path / 'knn.py').write_text(config)
    arguments = ('--protocol', tmp_path / 'knn.py', '--out', tmp_path / 'out')
    done = call(project / 'run' / 'epoch_1.pth', *arguments)
    assert done.returncode == 1
    assert done.err.count(f'Cannot read the image {broken}') == 1
    assert 'Traceback (most' not in done.err
    assert not list((tmp_path / 'out').glob('*.json'))


def test_only_detection_runs_in_several_processes(call, project, tmp_path):
    arguments = ('--protocol', project / 'knn.py', '--out', tmp_path, '--launcher', 'pytorch')
    done = call(project / 'run' / 'epoch_1.pth', *arguments)
    assert done.returncode == 1 and 'toy-knn runs in one process' in done.err


def test_nothing_to_do_shows_the_usage(call):
    done = call()
    assert done.returncode == 2 and 'give a checkpoint and --protocol, or --list' in done.err
