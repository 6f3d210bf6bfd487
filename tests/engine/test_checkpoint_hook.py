"""Checkpoints survive kills and full disks; weights that are not finite are never saved."""

import errno
import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from mmselfsup_invp.checkpoint_files import latest_checkpoint
from mmselfsup_invp.engine import atomic_backend
from mmselfsup_invp.engine.hooks import CheckpointHook
from mmselfsup_invp.engine.hooks.checkpoint_hook import NonFiniteWeights, require_finite

from .. import toy
from .processes import preload
from .recording import Watch


def build(images, work_dir, epochs=3, *others, checkpoint=None, **changes):
    options = {'interval': 1, 'max_keep_ckpts': 1, **(checkpoint or {})}
    config = toy.merged(dict(default_hooks=dict(checkpoint=options)), changes)
    runner = toy.build_runner(images, work_dir, epochs, **config)
    for other in others:
        runner.register_hook(other)
    return runner


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth*'))


def read(path):
    return torch.load(path)['state_dict']


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope='module')
def straight(images, tmp_path_factory):
    """State after three epochs without an interruption."""
    folder = tmp_path_factory.mktemp('straight')
    return build(images, folder).train().state_dict()


def test_it_stands_in_for_the_hook_of_mmengine(images, tmp_path):
    hooks = build(images, tmp_path).hooks
    assert [type(hook) for hook in hooks if 'Checkpoint' in type(hook).__name__] == [CheckpointHook]


@pytest.mark.parametrize(
    ('keep', 'expected'),
    [(-1, ['epoch_1', 'epoch_2', 'epoch_3']), (2, ['epoch_2', 'epoch_3']), (1, ['epoch_3'])],
)
def test_the_latest_are_kept(images, tmp_path, straight, keep, expected):
    """Also over a resumed run, and when a step is saved twice."""
    again = Watch('after_train_epoch', lambda r: hook_of(r).after_train_epoch(r))
    options = dict(checkpoint=dict(max_keep_ckpts=keep))
    build(images, tmp_path, 2, again, **options).train()
    build(images, tmp_path, 3, again, **options, resume=True).train()
    assert names(tmp_path) == [f'{name}.pth' for name in expected]
    assert find_latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_3.pth')
    assert_same(read(tmp_path / 'epoch_3.pth'), straight)


def hook_of(runner) -> CheckpointHook:
    return next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))


# ---- a process that is killed while it saves epoch 2 ----


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def tear(descriptor: int) -> None:
    """Leave half of the file behind."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    kill()


def train_until_killed(images: Path, folder: Path, point: str) -> None:
    """Train; the process ends at one point of the second save."""
    torch.set_num_threads(1)
    runner = build(images, folder)
    replace, calls = os.replace, []

    def replaced(*inputs):
        calls.append(inputs)
        # Each save renames the checkpoint and then last_checkpoint.
        number = {3: 'checkpoint', 4: 'record'}.get(len(calls))
        if point == f'before the {number}':
            kill()
        replace(*inputs)
        if point == f'after the {number}':
            kill()

    def save(runner):
        if runner.epoch == 1 and point == 'while it is written':
            atomic_backend.os.fsync = tear

    atomic_backend.os.replace = replaced
    runner.register_hook(Watch('after_train_epoch', save, 'HIGHEST'))
    runner.train()


@pytest.mark.parametrize(
    ('point', 'latest'),
    [
        ('while it is written', 'epoch_1'),
        pytest.param('before the checkpoint', 'epoch_1', marks=pytest.mark.slow),
        # last_checkpoint still names the first.
        ('after the checkpoint', 'epoch_2'),
        pytest.param('before the record', 'epoch_2', marks=pytest.mark.slow),
        pytest.param('after the record', 'epoch_2', marks=pytest.mark.slow),
    ],
)
def test_a_kill_loses_no_checkpoint(images, tmp_path, straight, point, latest):
    preload()
    process = get_context('forkserver').Process(
        target=train_until_killed, args=(images, tmp_path, point)
    )
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert latest_checkpoint(tmp_path) == tmp_path / f'{latest}.pth'
    for path in tmp_path.glob('*.pth'):
        assert read(path)['memory.bank'].isfinite().all()
    resumed = build(images, tmp_path, resume=True).train()
    assert_same(resumed.state_dict(), straight)
    assert names(tmp_path) == ['epoch_3.pth']


def test_a_full_disk_leaves_the_checkpoint_before(images, tmp_path, straight, monkeypatch):
    def fill(runner):
        if runner.epoch == 1:

            def full(*_):
                raise OSError(errno.ENOSPC, 'No space left on device')

            patch.setattr(atomic_backend.os, 'fsync', full)

    with monkeypatch.context() as patch, pytest.raises(OSError, match='No space left'):
        build(images, tmp_path, 3, Watch('after_train_epoch', fill, 'HIGHEST')).train()
    assert names(tmp_path) == ['epoch_1.pth']
    assert_same(build(images, tmp_path, resume=True).train().state_dict(), straight)


def zero(path):
    """Zero a block inside a checkpoint, which torch.load does not notice."""
    with path.open('r+b') as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(4096))


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ('damaged', 'start'),
    [
        ({'epoch_2': zero}, 'resumes from {}/epoch_1.pth; passed over: epoch_2.pth is corrupt'),
        ({'epoch_2': truncate}, 'resumes from {}/epoch_1.pth; passed over: epoch_2.pth is trunc'),
        (
            {'epoch_2': truncate, 'epoch_1': zero},
            '{} has no intact checkpoint: the run starts from scratch; passed over: epoch_2.pth',
        ),
        ({'epoch_2': Path.unlink}, 'resumes from {}/epoch_1.pth.'),
    ],
    ids=['corrupt', 'torn', 'all', 'deleted'],
)
def test_a_run_resumes_from_the_newest_intact_checkpoint(
    images, tmp_path, straight, damaged, start
):
    build(images, tmp_path, 2, checkpoint=dict(max_keep_ckpts=2)).train()
    for name, damage in damaged.items():
        damage(tmp_path / f'{name}.pth')
    resumed = build(images, tmp_path, resume=True).train()
    assert_same(resumed.state_dict(), straight)
    logs = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert start.format(tmp_path) in logs


def test_a_full_disk_at_the_first_save_does_not_prevent_resuming(images, tmp_path, straight):
    (tmp_path / 'epoch_1.pth.tmp').write_bytes(b'half of a checkpoint')
    (tmp_path / 'last_checkpoint').write_text('')
    assert_same(build(images, tmp_path, resume=True).train().state_dict(), straight)
    assert names(tmp_path) == ['epoch_3.pth']


def test_other_storage_is_left_to_mmengine(images, tmp_path):
    (tmp_path / 'last_checkpoint').write_text('s3://bucket/epoch_2.pth')
    runner = build(images, tmp_path, resume=True)
    hook_of(runner).before_run(runner)
    assert runner._resume and runner._load_from is None


def test_a_backend_that_the_config_names_is_kept(images, tmp_path):
    options = dict(backend='local')
    runner = build(images, tmp_path, 1, checkpoint=dict(backend_args=options))
    runner.train()
    assert hook_of(runner).backend_args == options and names(tmp_path) == ['epoch_1.pth']


class Metrics(Hook):
    """Calls the validation of a checkpoint hook with an accuracy that rises."""

    priority = 'LOWEST'

    def after_train_epoch(self, runner):
        runner.train_loop._epoch += 1  # As after the epoch, when validation takes place.
        hook_of(runner).after_val_epoch(runner, dict(accuracy=runner.epoch))
        runner.train_loop._epoch -= 1


def test_the_best_checkpoint_is_deleted_after_the_next_was_saved(images, tmp_path, monkeypatch):
    removed = []

    def remove(self, path):
        removed.append((Path(path).name, names(tmp_path)))
        os.remove(path)

    monkeypatch.setattr('mmengine.fileio.LocalBackend.remove', remove)
    options = dict(max_keep_ckpts=-1, save_best='accuracy', rule='greater')
    build(images, tmp_path, 2, Metrics(), checkpoint=options).train()
    ((name, present),) = removed
    assert name == 'best_accuracy_epoch_1.pth' and 'best_accuracy_epoch_2.pth' in present
    assert 'best_accuracy_epoch_2.pth' in names(tmp_path)


def test_a_checkpoint_cannot_name_another_file_to_be_deleted(images, tmp_path):
    victim, work = tmp_path / 'victim.txt', tmp_path / 'work'
    victim.touch()
    options = dict(max_keep_ckpts=-1, save_best='accuracy', rule='greater')
    build(images, work, 1, Metrics(), checkpoint=options).train()
    checkpoint = torch.load(work / 'epoch_1.pth')
    checkpoint['message_hub']['runtime_info'].update(best_ckpt=str(victim), best_score=0.5)
    torch.save(checkpoint, work / 'epoch_1.pth')
    build(images, work, 2, Metrics(), checkpoint=options, resume=True).train()
    assert victim.exists() and 'best_accuracy_epoch_2.pth' in names(work)


@pytest.mark.parametrize('part', ['backbone.conv1.weight', 'backbone.bn1.running_var'])
def test_a_model_that_is_not_finite_is_not_saved(images, tmp_path, part):
    """The last step of an epoch destroys the weights: no feature has shown it yet."""

    def destroy(runner):
        if runner.epoch == 1:
            runner.model.state_dict()[part][0] = torch.inf

    watch = Watch('after_train_epoch', destroy, 'HIGHEST')
    message = rf'NaN or Inf after 6 iterations \({part}\).* is .*epoch_1.pth. Resume with a lower'
    with pytest.raises(NonFiniteWeights, match=message):
        build(images, tmp_path, 3, watch).train()
    assert names(tmp_path) == ['epoch_1.pth']
    assert find_latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')


@pytest.mark.parametrize(
    ('value', 'refused'), [(torch.nan, True), (torch.inf, True), (-torch.inf, False)]
)
def test_masks_of_negative_infinity_are_saved(value, refused):
    model = torch.nn.Linear(2, 2)
    model.register_buffer('mask', torch.tensor([0.0, value]))
    if not refused:
        return require_finite(model, 1, None)
    with pytest.raises(NonFiniteWeights, match=r'after 1 iterations \(mask\): no checkpoint was'):
        require_finite(model, 1, None)


def test_no_checkpoint_falls_between_the_backward_passes_of_a_step(images, tmp_path):
    wrapper = dict(accumulative_counts=2)
    for options in (dict(by_epoch=False, interval=2), dict(by_epoch=True, interval=1)):
        build(images, tmp_path, 1, optim_wrapper=wrapper, checkpoint=options).train()
    options = dict(by_epoch=False, interval=3)
    with pytest.raises(ValueError, match=r'interval = 3 .* no multiple of .*counts = 2'):
        build(images, tmp_path, optim_wrapper=wrapper, checkpoint=options).train()
