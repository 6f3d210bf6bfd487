"""Checkpoints from a stranger, opened by every command: nothing in them is executed."""

import pickle
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch

from . import toy
from .command import run_tool
from .engine.methods import changes
from .tools.test_benchmark import KNN

SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))


class Executed:
    """Creates the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return open, (str(self.canary), 'w')


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """Runs of InvP and SeLa of one epoch, the config of the first, and a benchmark."""
    root = tmp_path_factory.mktemp('project')
    images = toy.image_folder(root / 'data')
    for name in ('InvP', 'SeLa'):
        toy.build_runner(images, root / name, 1, **changes(name, images), **SAVE).train()
    knn = dict(knn=dict(type='KNNEvalHook', query_dataloader=toy.loader(images, 'test'), k=3))
    cfg = toy.runner_config(
        images, root / 'unused', 1, default_hooks={**SAVE['default_hooks'], **knn}
    )
    cfg.dump(root / 'toy.py')
    (root / 'knn.py').write_text(KNN.format(root=images))
    return root


# ---- files: each function writes one from an intact checkpoint of InvP ----


def saved(change):
    """A checkpoint whose content is changed in place."""

    def write(path, checkpoint, canary):
        change(checkpoint, canary)
        torch.save(checkpoint, path)

    return write


def config(text, key='cfg'):
    """A checkpoint with lines at the end of the text of the config."""

    def change(checkpoint, canary):
        meta = checkpoint['meta']
        meta[key] = f'{meta["cfg"]}\n{text.format(canary)}\n'

    return saved(change)


def replaced(name, value):
    """A checkpoint with one entry ``A.B`` replaced; the value may be a function of the old one."""
    outer, _, inner = name.partition('.')

    def change(checkpoint, canary):
        part = checkpoint[outer] if inner else checkpoint
        key = inner or outer
        part[key] = value(part[key]) if callable(value) else value

    return saved(change)


def write_gadget(path, checkpoint, canary):
    path.write_bytes(pickle.dumps(Executed(canary)))


def write_legacy_gadget(path, checkpoint, canary):
    torch.save(Executed(canary), path, _use_new_zipfile_serialization=False)


def write_bomb(path, checkpoint, canary):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('bomb/data.pkl', bytes(2**24))


def write_cut(path, checkpoint, canary):
    torch.save(checkpoint, path)
    path.write_bytes(path.read_bytes()[:-100])


def write_zeroed(path, checkpoint, canary):
    torch.save(checkpoint, path)
    content = bytearray(path.read_bytes())
    weight = checkpoint['state_dict']['backbone.conv1.weight'].numpy().tobytes()
    start = content.index(weight)
    content[start : start + len(weight)] = bytes(len(weight))
    path.write_bytes(content)


def repeat_weight(checkpoint, canary):
    checkpoint['state_dict']['backbone.conv1.weight'] = torch.zeros(1).expand(2**20, 2**20)


def reshape_optimizer(checkpoint, canary):
    checkpoint['optimizer']['state'][0]['momentum_buffer'] = torch.zeros(3)


def reshape_all(state):
    return {name: torch.zeros(7, 7) for name in state}


OPEN = "dict(type='builtins.open', file='{}', mode='w')"
CONFIG = ('benchmark', 'export', 'report')  # Commands that read the config in a checkpoint.
READS_ALL = ('resume', 'load_from', 'init_cfg', 'test', *CONFIG)
RUN = ('resume',)  # Reads the state of the run.

# How the file is written, and the commands that refuse it; the others may open it.
FILES = {
    'pickle': (write_gadget, READS_ALL),
    'legacy format': (write_legacy_gadget, READS_ALL),
    'pickle in meta': (
        saved(lambda checkpoint, canary: checkpoint['meta'].update(author=Executed(canary))),
        READS_ALL,
    ),
    'pickle in weights': (
        saved(lambda checkpoint, canary: checkpoint['state_dict'].update(x=Executed(canary))),
        READS_ALL,
    ),
    'statement in meta.cfg': (config("open('{}', 'w')"), CONFIG),
    'call in meta.cfg': (config("model = dict(backbone=dict(type=open('{}', 'w')))"), CONFIG),
    'type of the backbone': (config(f'model = dict(backbone={OPEN})'), CONFIG),
    'type of the model': (config(f'model = {OPEN}'), CONFIG),
    'type of the data': (
        config(f'train_dataloader = dict(batch_size=1, dataset={OPEN})'),
        ('report',),
    ),
    'type of a hook': (config(f'custom_hooks = [{OPEN}]'), ()),
    'module of a hook': (config("custom_hooks = [dict(type='strange_module.Hook')]"), ()),
    'statement in meta.config': (config("open('{}', 'w')", key='config'), ()),
    'compression bomb': (write_bomb, READS_ALL),
    'repeated weight': (saved(repeat_weight), READS_ALL),
    'truncated': (write_cut, READS_ALL),
    'zeroed weight': (write_zeroed, READS_ALL),
    'text': (lambda path, *_: path.write_text('weights'), READS_ALL),
    'list': (lambda path, *_: torch.save([1], path), READS_ALL),
    'state_dict is a number': (replaced('state_dict', 3), READS_ALL),
    'weights of another shape': (
        replaced('state_dict', reshape_all),
        READS_ALL,
    ),
    'no meta': (saved(lambda checkpoint, canary: checkpoint.pop('meta')), (*RUN, *CONFIG)),
    'epoch is a text': (replaced('meta.epoch', '1'), RUN),
    'optimizer is a list': (replaced('optimizer', [1]), RUN),
    'optimizer of another shape': (saved(reshape_optimizer), RUN),
    'schedulers are a number': (replaced('param_schedulers', 3), RUN),
    'message hub is a list': (replaced('message_hub', [1]), RUN),
    'another method': (None, (*RUN, 'test')),
}


# ---- commands ----


def arguments(command: str, path: Path, project: Path, out: Path) -> list[object]:
    """Command line of a tool that opens a checkpoint."""
    train = ['train.py', project / 'toy.py', '--work-dir', out]
    return {
        'resume': [*train, '--resume', path, '--cfg-options', 'train_cfg.max_epochs=2'],
        'load_from': [*train, '--cfg-options', f'load_from={path}'],
        'init_cfg': [
            *train,
            '--cfg-options',
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={path}',
            'model.backbone.init_cfg.prefix=backbone.',
        ],
        'test': ['test.py', project / 'toy.py', path, '--work-dir', out],
        'benchmark': ['benchmark.py', path, '--protocol', project / 'knn.py', '--out', out],
        'export': ['export.py', path, '--to', 'mmselfsup', '--out', out / 'backbone.pth'],
        'report': [
            *('report.py', project / 'InvP', '--checkpoint', path),
            *('--out', out / 'report.html', '--device', 'cpu'),
        ],
    }[command]


@pytest.fixture
def call(monkeypatch, capfd):
    """Run the command line of a tool in this process."""
    return partial(run_tool, monkeypatch=monkeypatch, capture=capfd)


@pytest.mark.parametrize('command', READS_ALL)
@pytest.mark.parametrize('name', FILES)
def test_nothing_is_executed_and_errors_name_the_file(
    call, project, tmp_path, monkeypatch, name, command
):
    write, refusing = FILES[name]
    path, canary = tmp_path / 'strange.pth', tmp_path / 'executed'
    (tmp_path / 'strange_module.py').write_text(f'open({str(canary)!r}, "w")')
    monkeypatch.syspath_prepend(tmp_path)
    if write is None:
        path.write_bytes((project / 'SeLa' / 'epoch_1.pth').read_bytes())
    else:
        write(path, torch.load(project / 'InvP' / 'epoch_1.pth'), canary)
    done = call(*arguments(command, path, project, tmp_path / 'out'))
    assert not canary.exists()
    if command in refusing:
        error = done.err[done.err.find('error: ') :]
        assert done.returncode == 1 and error.startswith('error: '), done.err[-2000:]
        assert 'strange.pth' in error and 'Traceback (most' not in done.err
    else:
        assert done.returncode == 0, done.err[-2000:]


def test_the_canary_is_created_by_a_loader_that_executes(tmp_path):
    """So that its absence above means something."""
    write_gadget(tmp_path / 'gadget.pth', None, tmp_path / 'executed')
    pickle.loads((tmp_path / 'gadget.pth').read_bytes()).close()
    assert (tmp_path / 'executed').exists()


@pytest.mark.parametrize('name', ['pickle', 'pickle in meta'])
def test_a_download_is_not_executed_either(project, tmp_path, monkeypatch, name):
    """A file in the cache of downloads stands for one from an address."""
    from mmengine.runner import CheckpointLoader

    canary = tmp_path / 'executed'
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cached = tmp_path / 'hub' / 'checkpoints' / 'strange.pth'
    cached.parent.mkdir(parents=True)
    FILES[name][0](cached, torch.load(project / 'InvP' / 'epoch_1.pth'), canary)
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint('https://example.org/strange.pth', 'cpu')
    assert not canary.exists()


class TestOldTorch:
    @pytest.fixture(autouse=True)
    def old(self, monkeypatch):
        monkeypatch.setattr(torch, '__version__', '2.5.1')

    def test_it_refuses_by_default(self, project):
        path = project / 'InvP' / 'epoch_1.pth'
        with pytest.raises(ValueError, match='torch 2.5.1 cannot load .* Install torch 2.6 or'):
            toy.Runner.from_cfg(loading(project, path)).load_or_resume()

    def test_trusted_checkpoints_are_loaded(self, project, monkeypatch):
        monkeypatch.setenv('MMSELFSUP_INVP_TRUST_CHECKPOINTS', '1')
        runner = toy.Runner.from_cfg(loading(project, project / 'InvP' / 'epoch_1.pth'))
        runner.load_or_resume()
        assert runner._has_loaded


def loading(project, path):
    cfg = toy.runner_config(project / 'data', project / 'old', 1)
    cfg.load_from = str(path)
    return cfg
