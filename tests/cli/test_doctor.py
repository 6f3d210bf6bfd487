import multiprocessing
import shutil
import tempfile

import pytest

from mmselfsup_invp.cli import doctor, doctor_folder
from mmselfsup_invp.cli.lock import work_folder_lock
from mmselfsup_invp.engine.hooks import run_health_hook

from .. import toy


@pytest.fixture
def root(tmp_path):
    return toy.image_folder(tmp_path / 'images')


@pytest.fixture
def examine(root, tmp_path):
    """Findings by subject for the toy run with changes."""

    def examine(**changes):
        cfg = toy.runner_config(root, tmp_path / 'work', **changes)
        return {one.subject: one for one in doctor.Examination(cfg).findings()}

    return examine


def image_files(root, broken='raise'):
    loader = toy.loader(root, views=toy.VIEWS)
    options = dict(data_root=str(root), data_prefix='train', pipeline=loader['dataset']['pipeline'])
    return dict(loader, dataset=dict(type='ImageFiles', broken=broken, **options))


def test_a_run_that_can_start(examine, tmp_path):
    found = examine()
    expected = ['versions', 'config', 'images', 'ids', 'memory', 'disk', 'time']
    assert list(found) == expected
    assert {one.level for one in found.values()} == {'ok'}
    assert '24, all decoded; shorter side 16 to 16' in found['images'].text
    assert 'bank 0.0 MiB + graph' in found['memory'].text
    assert ' images/s: ' in found['time'].text and 'for 2 epochs' in found['time'].text
    assert not (tmp_path / 'work').exists()


def test_the_exit_code(root, tmp_path, capsys):
    assert doctor.report(toy.runner_config(root, tmp_path)) == 0
    assert capsys.readouterr().out.endswith('The run can start.\n')
    wrong = toy.runner_config(root, tmp_path, model=dict(head=dict(hops=0)))
    assert doctor.report(wrong) == 1
    page = capsys.readouterr().out
    assert page.endswith('The run cannot start.\n') and 'hops = 0' in page
    assert len(page.splitlines()) < 20


@pytest.mark.parametrize(('broken', 'level'), [('raise', 'error'), ('skip', 'note')])
def test_images_that_cannot_be_read(examine, root, broken, level):
    (root / 'train' / '005.png').write_bytes(b'broken')
    found = examine(train_dataloader=image_files(root, broken))
    assert found['unreadable'].level == level and '/005.png' in found['unreadable'].text
    assert ('time' in found) == (broken == 'skip')


def test_duplicates_and_small_images(examine, root):
    shutil.copy(root / 'train' / '003.png', root / 'train' / '999.png')
    loader = image_files(root)
    views = [dict(type='RandomResizedCrop', size=32)]
    loader['dataset']['pipeline'][1] = dict(type='AugmentedViews', transforms=views)
    found = examine(train_dataloader=loader)
    assert found['duplicates'].level == found['small'].level == 'note'
    assert '1 files' in found['duplicates'].text and '999.png' in found['duplicates'].text
    assert found['small'].text == '25 images are smaller than the views of 32 pixels'


def test_ids_that_are_not_positions(examine, monkeypatch):
    from mmselfsup_invp.compat.host import TRANSFORMS

    load = TRANSFORMS.get('LoadImage')
    transform = load.transform

    def shifted(self, results):
        return transform(self, dict(results, sample_idx=results.get('sample_idx', 0) + 1))

    monkeypatch.setattr(load, 'transform', shifted)
    assert examine()['ids'] == doctor.Finding('error', 'ids', 'image 0 has sample_idx 1')


def test_memory_and_disk_that_do_not_suffice(examine, monkeypatch):
    usage = shutil.disk_usage('.')
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda _: usage._replace(free=1000))
    found = examine()
    assert found['disk'].level == 'error' and 'max_keep_ckpts=1' in found['disk'].text
    monkeypatch.setattr(run_health_hook, 'available_memory', lambda _: 1000)
    assert 'Try, in this order:' in examine()['start'].text


def test_errors_of_the_start_are_findings(examine):
    found = examine(model=dict(memory=dict(num_neighbours=24)))
    assert found['start'].level == 'error'
    assert 'A memory of 24 rows cannot give 24 neighbours' in found['start'].text


def test_a_method_that_first_extracts_all_features_is_not_timed(examine):
    hook = dict(type='SelfLabelHook', num_events=2)
    found = examine(model=toy.sela_config(), custom_hooks=[], default_hooks=dict(label=hook))
    assert 'time' in found, found
    assert found['time'].text.startswith('not measured: SelfLabelHook')


def test_loading_that_limits_the_speed_is_a_note(root, tmp_path):
    loader = toy.loader(root, views=toy.VIEWS, num_workers=2)
    one = doctor.Examination(toy.runner_config(root, tmp_path, train_dataloader=loader))
    one.dataset = range(1000)
    found = one._time([(9.0, 9.0), (0.8, 0.16), (0.8, 0.16)], batch_size=8)
    assert found.level == 'note' and found.text.startswith('20 images/s: 50 s an epoch')
    assert '(100 ms to load an image, 20 ms to train on it)' in found.text
    assert one._time([(0.1, 0.16)], batch_size=8).level == 'ok'


def test_the_folder_of_another_run_is_refused_as_by_training(examine, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/epoch_3.pth').write_bytes(b'')
    found = examine()
    assert found['folder'].level == 'error' and 'images' not in found
    assert 'work holds another run: epoch_3.pth' in found['folder'].text
    named = examine(resume=True, load_from='epoch_9.pth')
    assert named['folder'].level == 'error' and 'epoch_9.pth' in named['folder'].text


def test_a_folder_that_cannot_be_written_is_an_error(examine, tmp_path, monkeypatch):
    def read_only(dir):
        assert dir == tmp_path
        raise OSError(30, 'Read-only file system')

    monkeypatch.setattr(tempfile, 'TemporaryFile', read_only)
    found = examine()['folder']
    assert found.level == 'error'
    assert 'work cannot be written (Read-only file system). Choose another' in found.text


def test_a_file_in_the_place_of_the_folder_is_an_error(examine, tmp_path):
    (tmp_path / 'work').write_text('a file')
    found = examine()['folder']
    assert found.level == 'error' and 'work cannot be written (Not a directory)' in found.text


def hold(folder, held, end):
    with work_folder_lock(folder):
        held.set()
        end.wait()


def test_a_folder_in_use_is_an_error(root, tmp_path):
    cfg = toy.runner_config(root, tmp_path / 'work')
    context = multiprocessing.get_context('fork')
    held, end = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / 'work', held, end))
    process.start()
    try:
        assert held.wait(20)
        with pytest.raises(OSError, match='work is in use by process'):
            doctor_folder.require_work_folder(cfg)
    finally:
        end.set()
        process.join()
    doctor_folder.require_work_folder(cfg)
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['.lock']


@pytest.mark.parametrize(
    ('options', 'kept'),
    [
        (dict(), 10),
        (dict(max_keep_ckpts=1_000_000), 10),
        (dict(max_keep_ckpts=0), 10),
        (dict(max_keep_ckpts=3), 3),
        (dict(interval=4), 3),
        (dict(interval=4, max_keep_ckpts=2), 2),
        (dict(interval=-1), 1),
        (dict(interval=20, by_epoch=False), 4),
    ],
)
def test_checkpoints_are_counted_that_the_run_will_write(root, tmp_path, options, kept):
    hooks = dict(checkpoint=dict(dict(type='CheckpointHook', interval=1), **options))
    cfg = toy.runner_config(root, tmp_path, default_hooks=hooks)
    cfg.train_cfg.max_epochs = 10
    assert doctor_folder.kept_checkpoints(cfg, batches=7) == kept


def test_an_epoch_without_a_batch_is_an_error(examine, root):
    loader = dict(image_files(root), batch_size=25, drop_last=True)
    found = examine(train_dataloader=loader)
    assert found['images'].level == 'error' and 'memory' not in found
    assert 'of 24 images gives no batch of 25' in found['images'].text
    for fits in (dict(batch_size=24), dict(drop_last=False)):
        assert examine(train_dataloader=loader | fits)['images'].level == 'ok'
