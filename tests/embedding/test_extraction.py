import errno
import json
import os

import numpy as np
import pytest

import mmselfsup_invp
from mmselfsup_invp.embedding import Embedding, embed, extraction
from mmselfsup_invp.evaluation import Encoder

from ..checkpoints import save_checkpoint


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    checkpoint = save_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_3.pth')
    return Encoder(checkpoint, device='cpu')


@pytest.fixture
def folder(images, tmp_path):
    """Links to images, in folders."""
    for split in ('train', 'test'):
        (tmp_path / 'images').mkdir(exist_ok=True)
        (tmp_path / 'images' / split).symlink_to(images / split)
    return tmp_path / 'images'


def test_features_are_in_the_order_of_the_paths(encoder, folder):
    embedding = embed(encoder, folder)
    expected = [
        f'{s}/{n:03d}.png' for s, count in (('test', 12), ('train', 24)) for n in range(count)
    ]
    assert embedding.paths == expected and len(embedding) == 36
    np.testing.assert_allclose(
        embedding.features, encoder.features([str(folder / path) for path in expected]), atol=1e-6
    )
    assert embedding.about['epochs'] == 3 and embedding.about['seconds'] >= 0


def test_the_function_of_the_package_reads_a_checkpoint(encoder, folder):
    assert mmselfsup_invp.embed is embed
    files = [folder / 'train/003.png', folder / 'test/001.png']
    embedding = mmselfsup_invp.embed(encoder.backbone.path, files, device='cpu', size=8)
    assert embedding.paths == [str(file) for file in files]
    assert embedding.features.shape == (2, encoder.dimensions)
    assert embedding.about['view'][-1]['transforms'][-1]['size'] == (8, 8)


def test_a_folder_holds_the_same_features(encoder, folder, tmp_path):
    in_memory, out = embed(encoder, folder), tmp_path / 'deep' / 'out'
    embedding = embed(encoder, folder, out, batch_size=5)
    assert isinstance(embedding.features, np.memmap)
    np.testing.assert_allclose(embedding.features, in_memory.features, atol=1e-6)
    np.testing.assert_array_equal(np.load(out / 'features.npy'), embedding.features)
    again = Embedding.read(out)
    assert again.paths == in_memory.paths == embedding.paths
    about = json.loads((out / 'embedding.json').read_text())
    assert (about['images'], about['dimensions']) == embedding.features.shape
    assert sorted(path.name for path in out.iterdir()) == [
        'embedding.json', 'features.npy', 'images.csv', 'unreadable.csv',
    ]  # fmt: skip


def test_a_second_call_reads_the_folder(encoder, folder, tmp_path, monkeypatch):
    first = embed(encoder, folder, tmp_path / 'out')
    monkeypatch.setattr(Encoder, 'batches', None)
    second = embed(encoder, folder, tmp_path / 'out')
    assert second.paths == first.paths and second.about == first.about
    np.testing.assert_array_equal(second.features, first.features)


@pytest.mark.parametrize('change', ['image', 'time', 'view', 'network'])
def test_features_of_something_else_are_not_overwritten(encoder, folder, images, tmp_path, change):
    copied = tmp_path / 'copied'
    copied.mkdir()
    for number in range(3):
        content = (images / f'train/{number:03d}.png').read_bytes()
        (copied / f'{number}.png').write_bytes(content)
    before = embed(encoder, copied, tmp_path / 'out').features.copy()
    if change == 'image':
        (copied / '2.png').rename(copied / '3.png')
    elif change == 'time':
        os.utime(copied / '2.png', (1, 1))
    elif change == 'view':
        encoder = Encoder(encoder.backbone, size=8, device='cpu')
    else:
        encoder = Encoder(encoder.backbone, device='cpu', random_init=True, seed=5)
    with pytest.raises(FileExistsError, match='holds the features of 3 images by .*epoch_3.pth'):
        embed(encoder, copied, tmp_path / 'out')
    np.testing.assert_array_equal(Embedding.read(tmp_path / 'out').features, before)


@pytest.fixture
def partly_broken(images, tmp_path):
    """Nine images: the first is empty, the last is truncated, and the fifth is a text."""
    folder = tmp_path / 'broken'
    folder.mkdir()
    for number in range(9):
        content = (images / f'train/{number:03d}.png').read_bytes()
        content = {0: b'', 4: b'no image', 8: content[:60]}.get(number, content)
        (folder / f'{number}.png').write_bytes(content)
    return folder


@pytest.mark.parametrize('stored', [False, True])
def test_unreadable_images_are_listed_and_skipped(
    encoder, partly_broken, tmp_path, monkeypatch, stored
):
    monkeypatch.setattr(extraction, 'COPIED_ROWS', 4)
    out = tmp_path / 'out' if stored else None
    embedding = embed(encoder, partly_broken, out, batch_size=2)
    assert embedding.paths == [f'{number}.png' for number in (1, 2, 3, 5, 6, 7)]
    assert [*embedding.unreadable] == ['0.png', '4.png', '8.png']
    files = [str(partly_broken / path) for path in embedding.paths]
    np.testing.assert_allclose(embedding.features, encoder.features(files), atol=1e-6)
    if stored:
        assert np.load(out / 'features.npy').shape == (6, encoder.dimensions)
        assert [*Embedding.read(out).unreadable] == ['0.png', '4.png', '8.png']
        assert not list(out.glob('*unfinished*'))


def test_unreadable_images_can_be_an_error(encoder, partly_broken, tmp_path):
    with pytest.raises(ValueError, match=r'Cannot read the image 0.png \('):
        embed(encoder, partly_broken, tmp_path / 'out', broken='raise')
    with pytest.raises(FileNotFoundError, match='holds no embedding, or one that was interrupted'):
        Embedding.read(tmp_path / 'out')
    assert len(embed(encoder, partly_broken, tmp_path / 'out')) == 6
    for path in partly_broken.iterdir():
        path.write_bytes(b'')
    with pytest.raises(ValueError, match=r'Cannot read the image 0.png .*, nor 8 others'):
        embed(encoder, partly_broken)
    with pytest.raises(ValueError, match='broken'):
        embed(encoder, partly_broken, broken='ignore')


def test_names_that_are_not_utf8_are_shown_escaped(encoder, images, tmp_path):
    folder = tmp_path / 'names'
    folder.mkdir()
    content = (images / 'train/000.png').read_bytes()
    for name in (b'caf\xe9.png', b'a "b", c\n.png'):
        (folder / os.fsdecode(name)).write_bytes(content)
    embed(encoder, folder, tmp_path / 'out')
    assert Embedding.read(tmp_path / 'out').paths == ['a "b", c\n.png', 'caf\\xe9.png']


def test_a_missing_folder_is_named(encoder, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        embed(encoder, tmp_path / 'nowhere')


@pytest.mark.skipif(not hasattr(os, 'posix_fallocate'), reason='the system cannot reserve space')
@pytest.mark.parametrize('stage', ['features', 'shorter'])
def test_a_full_disk_is_an_error_with_a_message(
    encoder, partly_broken, tmp_path, monkeypatch, stage
):
    reserve, full = os.posix_fallocate, OSError(errno.ENOSPC, 'No space left on device')
    answers = [full] if stage == 'features' else [None, full]

    def reserved(file, start, size):
        if answer := answers.pop(0):
            raise answer
        reserve(file, start, size)
        assert os.fstat(file).st_size == size

    monkeypatch.setattr(os, 'posix_fallocate', reserved)
    with pytest.raises(OSError, match=r'needs 0.0 MiB for .* \(No space left .*Free space'):
        embed(encoder, partly_broken, tmp_path / 'out')
    assert not answers and (tmp_path / 'out/features.npy').exists() == (stage == 'shorter')
    monkeypatch.undo()
    assert len(embed(encoder, partly_broken, tmp_path / 'out')) == 6


@pytest.mark.parametrize('able', [False, True])
def test_a_file_system_that_cannot_reserve_space_is_used(
    encoder, folder, tmp_path, monkeypatch, able
):
    def refused(*_):
        raise OSError(errno.EOPNOTSUPP, 'Operation not supported')

    if able:
        monkeypatch.setattr(os, 'posix_fallocate', refused, raising=False)
    else:
        monkeypatch.delattr(os, 'posix_fallocate', raising=False)
    assert len(embed(encoder, folder, tmp_path / 'out')) == 36


@pytest.mark.parametrize('name', ['features.npy', 'images.csv', 'unreadable.csv'])
def test_files_of_others_are_not_overwritten(encoder, folder, tmp_path, name):
    out = tmp_path / 'out'
    out.mkdir()
    (out / name).write_text('mine')
    (out / 'notes.txt').write_text('other content')
    with pytest.raises(FileExistsError, match=f'out holds {name}, .* Choose another folder'):
        embed(encoder, folder, out)
    assert (out / name).read_text() == 'mine' and len([*out.iterdir()]) == 2
    (out / name).rename(out / 'moved.txt')
    assert len(embed(encoder, folder, out)) == 36


def test_an_interrupted_call_starts_again(encoder, folder, tmp_path, monkeypatch):
    batches = Encoder.batches

    def interrupted(*arguments):
        yield next(batches(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, 'batches', interrupted)
    out = tmp_path / 'out'
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, folder, out, batch_size=5)
    assert sorted(path.name for path in out.iterdir()) == ['embedding.unfinished', 'features.npy']
    monkeypatch.undo()
    assert len(embed(encoder, folder, out)) == 36
    assert not (out / 'embedding.unfinished').exists()


@pytest.mark.parametrize('option', [dict(size=0), dict(size=-5), dict(batch_size=0)])
def test_options_are_checked_first(option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f'embed: {name} = {value} is not valid'):
        embed('missing.pth', 'nowhere', **option)
