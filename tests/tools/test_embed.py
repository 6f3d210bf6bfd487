import csv

import numpy as np
import pytest

from mmselfsup_invp.embedding import tables

from ..checkpoints import save_checkpoint
from ..command import run_tool


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_3.pth')


@pytest.fixture
def call(monkeypatch, capsys, checkpoint, images, tmp_path):
    """Run the command line on the test images in this process."""

    def call(*words, folder=images / 'test', path=checkpoint):
        words = [path, folder, '--out', tmp_path / 'out', '--device', 'cpu', *words]
        return run_tool('embed.py', *words, monkeypatch=monkeypatch, capture=capsys)

    return call


def table(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_everything_is_written_and_named(call, images, tmp_path):
    query = images / 'test/004.png'
    words = ['--neighbours', 3, '--clusters', 2, '--duplicates', 0.5, '--matches', 2]
    done = call(*words, '--query', query, images / 'train/000.png')
    assert done.returncode == 0, done.err
    out = tmp_path / 'out'
    features = np.load(out / 'features.npy')
    assert '12 images at 16x16 pixels by' in done.out and 'on cpu' in done.out
    for name in ('features.npy', 'images.csv', 'neighbours.csv', 'clusters.csv', 'duplicates.csv'):
        assert f'{out / name}  ' in done.out
    paths = [row['path'] for row in table(out / 'images.csv')]
    scores = features @ features.T
    for row in table(out / 'neighbours.csv'):
        one, other = paths.index(row['path']), paths.index(row['neighbour'])
        others = np.delete(scores[one], one)
        assert float(row['similarity']) == pytest.approx(scores[one, other], abs=1e-4)
        rank = int(row['rank'])
        assert np.sort(others)[-rank] == pytest.approx(float(row['similarity']), abs=1e-4)
    assert len(table(out / 'neighbours.csv')) == 36
    assert {row['cluster'] for row in table(out / 'clusters.csv')} == {'0', '1'}
    pairs = {(row['first'], row['second']) for row in table(out / 'duplicates.csv')}
    rows, columns = np.nonzero(np.triu(scores, 1) >= 0.5)
    assert pairs == {(paths[one], paths[other]) for one, other in zip(rows, columns, strict=True)}
    matches = table(out / 'matches.csv')
    assert [row['rank'] for row in matches] == ['1', '2', '1', '2']
    assert matches[0]['path'] == '004.png' and matches[0]['similarity'] == '1.0000'
    assert f'{query}\n  1.0000  004.png\n' in done.out
    assert len(done.out.splitlines()) < 20


def test_a_second_call_adds_to_the_folder(call, tmp_path):
    assert call().returncode == 0
    before = (tmp_path / 'out/features.npy').stat().st_mtime_ns
    done = call('--neighbours', 100)
    assert done.returncode == 0 and 'the 11 nearest images of each' in done.out
    assert (tmp_path / 'out/features.npy').stat().st_mtime_ns == before


def test_other_formats(call, tmp_path):
    pytest.importorskip('pyarrow')
    pytest.importorskip('faiss')
    done = call('--parquet', '--index')
    assert done.returncode == 0, done.err
    assert (tmp_path / 'out/features.parquet').is_file() and 'IndexFlatIP' in done.out


def test_unreadable_images_are_counted(call, images, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    (folder / 'good.png').write_bytes((images / 'test/000.png').read_bytes())
    (folder / 'bad.png').write_bytes(b'')
    done = call(folder=folder)
    assert done.returncode == 0 and 'unreadable.csv  1 images were skipped' in done.out
    assert table(tmp_path / 'out/unreadable.csv')[0]['path'] == 'bad.png'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (dict(path='none.pth'), 'There is no checkpoint none.pth'),
        (dict(folder='nowhere'), 'There is no folder nowhere.'),
        (dict(more=['--query', 'cat.jpg']), 'Cannot read the image cat.jpg (missing)'),
        (dict(more=['--clusters', 13]), '--clusters = 13 is outside the valid range 1 to 12'),
        (dict(more=['--clusters', 0]), '--clusters = 0 is outside'),
        (dict(more=['--neighbours', 0]), '--neighbours = 0 is outside'),
        (dict(more=['--matches', -1]), '--matches = -1 is outside'),
        (dict(more=['--duplicates', 1.5]), '--duplicates = 1.5 is outside the valid range 0 to 1'),
        (dict(more=['--duplicates', 'nan']), '--duplicates = nan is outside'),
        (dict(more=['--size', -5]), '--size = -5 is outside the valid range 1 to'),
        (dict(more=['--size', 0]), '--size = 0 is outside the valid range 1 to'),
        (dict(more=['--workers', -1]), '--workers = -1 is outside'),
        (dict(more=['--batch-size', 0]), '--batch-size = 0 is outside'),
        (dict(more=['--device', 'foo']), "The device 'foo' cannot be used here"),
        (dict(more=['--device', 'cuda:99']), "The device 'cuda:99' cannot be used here"),
    ],
)
def test_mistakes_end_in_one_message(call, tmp_path, words, message):
    # The parameters are shared by all tests: nothing may be taken out of them.
    more = words.get('more', [])
    done = call(*more, **{key: value for key, value in words.items() if key != 'more'})
    assert done.returncode == 1 and message in done.err and 'Traceback (most' not in done.err
    assert not (tmp_path / 'out').exists()


def test_options_are_compared_with_the_readable_images_too(call, images, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    (folder / 'good.png').write_bytes((images / 'test/000.png').read_bytes())
    done = call('--neighbours', 1, folder=folder)
    assert done.returncode == 1 and '--neighbours = 1 needs 2 images or more' in done.err
    (folder / 'bad.png').write_bytes(b'')
    done = call('--clusters', 2, folder=folder)
    assert done.returncode == 1
    assert '--clusters = 2 is outside the valid range 1 to 1' in done.err
    assert 'has 1 readable images' in done.err
    assert call('--clusters', 1, folder=folder).returncode == 0


@pytest.mark.parametrize(
    ('words', 'name'),
    [(['--clusters', 2], 'clusters.csv'), (['--duplicates', 0], 'duplicates.csv')],
)
def test_files_of_others_are_not_overwritten(call, tmp_path, words, name):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / name).write_text('mine')
    done = call(*words)
    assert done.returncode == 1 and f'out holds {name}, which would be overwritten' in done.err
    assert [path.read_text() for path in (tmp_path / 'out').iterdir()] == ['mine']
    # Other files do not matter, and in a folder of its own the tool replaces its own.
    assert call().returncode == call(*words).returncode == 0


def test_a_missing_package_is_named_before_images_are_read(call, monkeypatch, tmp_path):
    monkeypatch.setattr(tables, 'find_spec', lambda name: None)
    done = call('--parquet')
    assert done.returncode == 1 and '--parquet needs pyarrow' in done.err
    assert 'pip install' in done.err and not (tmp_path / 'out').exists()
