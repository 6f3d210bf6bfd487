"""The flow of a preparation, on the pets for the most part."""

import dataclasses
import hashlib
import shutil
import tarfile
import zipfile
from collections import namedtuple
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from PIL import Image

from mmselfsup_invp.datasets import files
from mmselfsup_invp.datasets.preparation import (
    Download,
    archives,
    check,
    data_sets,
    facts,
    missing_files,
    prepare,
    verify,
)

from .. import layouts

LISTS = ('classes.txt', 'train.txt', 'test.txt')


def tiny(name, seed=None, subset_list=None, **counts):
    """A data set with other expected counts."""
    return dataclasses.replace(data_sets(seed, subset_list)[name], counts=counts)


def state_of(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob('*') if path.is_file()}


@pytest.fixture
def pets(tmp_path):
    return layouts.pets(tmp_path / 'pets', classes=3)


class TestLists:
    def test_are_written_and_a_second_call_does_nothing(self, pets):
        data_set = tiny('pets', train=6, test=6)
        assert missing_files(data_set, pets) == [f'meta/{name}' for name in LISTS]
        assert prepare(data_set, pets) == dict(train=6, test=6)
        assert (pets / 'meta' / 'train.txt').read_text().splitlines()[1:3] == [
            'images/Abyssinian_2.jpg 0',
            'images/american_bulldog_1.jpg 1',
        ]
        before = state_of(pets)
        assert prepare(data_set, pets) is None
        assert state_of(pets) == before
        assert check(data_set, pets) == {'meta/train.txt': 6, 'meta/test.txt': 6}
        assert state_of(pets) == before

    def test_a_list_that_is_there_is_believed(self, pets):
        data_set = tiny('pets', train=6, test=6)
        prepare(data_set, pets)
        lines = (pets / 'meta' / 'train.txt').read_text().splitlines()[::-1]
        (pets / 'meta' / 'train.txt').write_text('\n'.join(lines) + '\n')
        (pets / 'meta' / 'test.txt').unlink()
        prepare(data_set, pets)
        assert (pets / 'meta' / 'train.txt').read_text().splitlines() == lines
        assert (pets / 'meta' / 'test.txt').is_file()

    def test_a_list_of_another_length_is_refused(self, pets):
        data_set = tiny('pets', train=6, test=6)
        prepare(data_set, pets)
        with (pets / 'meta' / 'test.txt').open('a') as file:
            file.write('images/more.jpg 0\n')
        for function in (prepare, check):
            with pytest.raises(ValueError, match=r'test.txt lists 7 images, 6 are expected'):
                function(data_set, pets)

    def test_a_list_of_other_labels_is_not_completed(self, pets):
        (pets / 'meta').mkdir()
        (pets / 'meta' / 'test.txt').write_text(
            ''.join(f'images/Abyssinian_{n}.jpg 1\n' for n in (101, 102))
        )
        with pytest.raises(ValueError, match=r'test.txt differs .* in 8 lines:\n  images/Abyss'):
            prepare(tiny('pets'), pets)
        assert not (pets / 'meta' / 'train.txt').exists()

    @pytest.mark.parametrize('interrupted', LISTS)
    def test_an_interrupted_write_leaves_no_list(self, pets, monkeypatch, interrupted):
        data_set = tiny('pets', train=6, test=6)
        replace = files.os.replace

        def stop(source, target):
            if target.name == interrupted:
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr(files.os, 'replace', stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(data_set, pets)
        assert not (pets / 'meta' / interrupted).exists()
        assert f'meta/{interrupted}' in missing_files(data_set, pets)
        monkeypatch.undo()
        assert prepare(data_set, pets) == dict(train=6, test=6)
        assert sorted(path.name for path in (pets / 'meta').iterdir()) == sorted(LISTS)


class TestFaults:
    def test_missing_and_truncated_images_are_named(self, pets):
        whole = (pets / 'images' / 'Abyssinian_1.jpg').read_bytes()
        (pets / 'images' / 'Abyssinian_1.jpg').write_bytes(whole[:-20])
        (pets / 'images' / 'Abyssinian_102.jpg').unlink()
        (pets / 'images' / 'american_bulldog_1.jpg').write_text('no image')
        with pytest.raises(ValueError, match='is not whole') as raised:
            prepare(tiny('pets', train=6, test=7), pets)
        message = str(raised.value)
        assert 'test: 6 images found, 7 expected.' in message and 'train:' not in message
        assert '3 images are missing or broken' in message
        assert f'{pets}/images/Abyssinian_1.jpg (broken: image file is truncated' in message
        assert f'{pets}/images/Abyssinian_102.jpg (missing)' in message
        assert f'{pets}/images/american_bulldog_1.jpg (no image)' in message
        assert f'python tools/prepare_data.py pets --root {pets}' in message
        assert not (pets / 'meta').exists()

    def test_quick_looks_at_names_alone(self, pets):
        broken, gone = (pets / 'images' / f'Abyssinian_{n}.jpg' for n in (1, 2))
        broken.write_bytes(b'')
        assert prepare(tiny('pets', train=6, test=6), pets, quick=True) == dict(train=6, test=6)
        assert check(tiny('pets', train=6, test=6), pets, quick=True)
        with pytest.raises(ValueError, match='1 images are missing or broken'):
            check(tiny('pets', train=6, test=6), pets)
        gone.unlink()
        with pytest.raises(ValueError, match=r'Abyssinian_2.jpg \(missing\)'):
            check(tiny('pets', train=6, test=6), pets, quick=True)

    def test_ten_are_named_and_the_others_counted(self):
        text = verify.brief([f'image {n}' for n in range(1234)])
        assert text.splitlines()[:2] == ['  image 0', '  image 1']
        assert text.splitlines()[9:] == ['  image 9', '  and 1,224 more']
        assert verify.brief(['a', 'b']) == '  a\n  b'

    def test_several_processes_find_the_same(self, tmp_path, monkeypatch):
        paths = [str(tmp_path / f'{n}.png') for n in range(7)]
        for path in paths[:5]:
            Image.new('L', (2, 2)).save(path)
        monkeypatch.setattr(verify, 'CHUNK', 2)
        assert verify.find_faults(paths, 'x', processes=2) == [
            f'{path} (missing)' for path in paths[5:]
        ]
        assert verify.find_faults([], 'x') == []

    def test_a_missing_label_file_is_named(self, tmp_path):
        root = layouts.cars(tmp_path)
        (root / 'devkit' / 'cars_meta.mat').unlink()
        with pytest.raises(FileNotFoundError, match='cars_meta.mat is missing: Stanford Cars was'):
            prepare(tiny('cars'), root)

    def test_a_line_without_a_label_is_shown(self, tmp_path):
        root = layouts.places205(tmp_path)
        with (root / 'trainvalsplit_places205' / 'val_places205.csv').open('a') as file:
            file.write('a/abbey/last.jpg, 0,\n')
        with pytest.raises(ValueError, match="'a/abbey/last.jpg, 0,' is no line of a list"):
            prepare(tiny('places205'), root)

    def test_damaged_labels_are_named(self, tmp_path):
        root = layouts.flowers(tmp_path)
        (root / 'setid.mat').write_bytes(b'<html>Not found</html>' * 10)
        with pytest.raises(ValueError, match='setid.mat is damaged'):
            prepare(tiny('flowers'), root)


class TestMissing:
    def test_the_message_says_what_to_do(self, tmp_path):
        with pytest.raises(FileNotFoundError) as raised:
            prepare(data_sets()['pets'], tmp_path / 'pets')
        message = str(raised.value)
        for part in (
            'images.tar.gz (792 MB, MD5 5c4f3ee8e5d25df40f4fd59a7f44e54c)',
            'https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz',
            f'into {tmp_path / "pets"} and run',
            f'python tools/prepare_data.py pets --root {tmp_path / "pets"}',
        ):
            assert part in message
        assert not (tmp_path / 'pets').exists()

    def test_only_what_is_missing_is_listed(self, pets):
        shutil.rmtree(pets / 'annotations')
        with pytest.raises(FileNotFoundError) as raised:
            check(data_sets()['pets'], pets)
        assert 'annotations.tar.gz' in str(raised.value)
        assert 'images.tar.gz' not in str(raised.value)

    def test_a_check_before_the_preparation(self, pets):
        with pytest.raises(
            FileNotFoundError, match='is not prepared: meta/classes.txt, meta/train'
        ):
            check(data_sets()['pets'], pets)
        assert not (pets / 'meta').exists()

    @pytest.mark.parametrize('name', [n for n, item in data_sets().items() if item.downloads])
    def test_every_data_set_names_files_and_pages(self, name, tmp_path):
        with pytest.raises(FileNotFoundError) as raised:
            prepare(data_sets()[name], tmp_path)
        downloads = data_sets()[name].downloads
        assert downloads[0].file in str(raised.value)
        assert all(item.page.startswith('http') for item in downloads)


class TestArchives:
    @pytest.fixture
    def packed(self, pets):
        """The pets as they are downloaded."""
        for name in ('images', 'annotations'):
            layouts.pack(pets / f'{name}.tar.gz', [pets / name])
        return pets

    def test_are_unpacked_and_stay(self, packed):
        assert prepare(tiny('pets', train=6, test=6), packed) == dict(train=6, test=6)
        assert sorted(path.name for path in packed.iterdir()) == [
            'annotations', 'annotations.tar.gz', 'images', 'images.tar.gz', 'meta',
        ]  # fmt: skip

    def test_unpacking_cut_short_is_done_again(self, packed, monkeypatch):
        data_set = tiny('pets', train=6, test=6)

        def stop(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(archives, '_merge', stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(data_set, packed)
        (packed / 'images').mkdir()  # As if it was stopped while the files were moved.
        monkeypatch.undo()
        assert prepare(data_set, packed) == dict(train=6, test=6)
        assert not list(packed.glob('.*'))

    @pytest.mark.parametrize('keep', [0.5, 0.0])
    def test_a_damaged_archive_is_named(self, packed, keep):
        whole = (packed / 'images.tar.gz').read_bytes()
        (packed / 'images.tar.gz').write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ValueError, match=r'images.tar.gz is damaged .* Delete it and get it'):
            prepare(tiny('pets', train=6, test=6), packed)
        assert not (packed / 'images').exists() and not list(packed.glob('.*'))

    def test_a_page_in_place_of_an_archive(self, packed, tmp_path):
        (packed / 'images.tar.gz').write_text('<html>Log in</html>')
        with pytest.raises(ValueError, match='images.tar.gz is damaged'):
            prepare(tiny('pets', train=6, test=6), packed)
        (tmp_path / 'caltech-101.zip').write_text('<html>Log in</html>')
        with pytest.raises(ValueError, match='caltech-101.zip is damaged'):
            prepare(tiny('caltech101'), tmp_path)

    def test_too_little_room(self, packed, monkeypatch):
        usage = namedtuple('usage', 'total used free')
        monkeypatch.setattr(archives.shutil, 'disk_usage', lambda _: usage(9, 8, 1))
        with pytest.raises(OSError, match=r'images.tar.gz needs at least .* has 0.00 GB left'):
            prepare(tiny('pets', train=6, test=6), packed)
        assert not (packed / 'images').exists()

    def test_a_full_disk_is_no_damage(self, packed, monkeypatch):
        def full(*_, **__):
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(tarfile.TarFile, 'extract', full)
        with pytest.raises(OSError, match='No space left'):
            prepare(tiny('pets', train=6, test=6), packed)
        assert not list(packed.glob('.*'))

    def test_archives_do_not_write_elsewhere(self, tmp_path):
        root = tmp_path / 'root'
        root.mkdir()
        (tmp_path / 'outside').write_text('')
        with tarfile.open(root / 'a.tar', 'w') as tar:
            tar.add(tmp_path / 'outside', '../evil')
        with pytest.raises(ValueError, match='a.tar is damaged'):
            archives.unpack(Download('a.tar', 'page', holds=('x',)), root)
        assert not (tmp_path / 'evil').exists()

    def test_caltechs_archive_holds_another(self, tmp_path):
        root = layouts.caltech101(tmp_path / 'caltech')
        inner = layouts.pack(root / '101_ObjectCategories.tar.gz', [root / '101_ObjectCategories'])
        with zipfile.ZipFile(root / 'caltech-101.zip', 'w') as file:
            file.write(inner, f'caltech-101/{inner.name}')
            file.writestr('__MACOSX/._101', 'of no use')
        inner.unlink()
        assert prepare(tiny('caltech101', train=60, test=4), root) == dict(train=60, test=4)
        assert not (root / '__MACOSX').exists()

    def test_both_years_of_voc_meet_in_one_folder(self, tmp_path):
        source = layouts.voc(tmp_path / 'VOCdevkit', 2007, trainval=3, test=2)
        layouts.voc(source, 2012, trainval=4)
        root = tmp_path / 'data'
        root.mkdir()
        year = source / 'VOC2007'
        test = [*sorted(year.rglob('00000[45].*')), *year.glob('ImageSets/Main/*test.txt')]
        below = tmp_path
        layouts.pack(root / 'VOCtest_06-Nov-2007.tar', test, below)
        layouts.pack(root / 'VOCtrainval_06-Nov-2007.tar', [year], below)
        layouts.pack(root / 'VOCtrainval_11-May-2012.tar', [source / 'VOC2012'], below)
        assert prepare(tiny('voc2007', trainval=3, test=2), root) == dict(trainval=3, test=2)
        assert prepare(tiny('voc2012', trainval=4), root) == dict(trainval=4)
        assert len(list((root / 'VOC2007' / 'JPEGImages').iterdir())) == 5


class TestDownload:
    """From a server on this machine."""

    @pytest.fixture
    def server(self, tmp_path, monkeypatch):
        """A folder and the address under which its files are served."""
        folder = tmp_path / 'server'
        folder.mkdir()
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        handler = partial(SimpleHTTPRequestHandler, directory=folder)
        with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
            Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01)).start()
            yield folder, f'http://127.0.0.1:{server.server_port}'
            server.shutdown()

    def test_missing_files_are_fetched(self, pets, server):
        folder, address = server
        shutil.rmtree(folder)
        shutil.move(pets, folder)
        downloads = []
        for name in ('images', 'annotations'):
            archive = layouts.pack(folder / f'{name}.tar.gz', [folder / name])
            md5 = hashlib.md5(archive.read_bytes()).hexdigest()
            page = f'{address}/{archive.name}'
            downloads.append(Download(archive.name, page, holds=(name,), md5=md5))
        data_set = dataclasses.replace(tiny('pets', train=6, test=6), downloads=tuple(downloads))
        assert prepare(data_set, pets, download=True) == dict(train=6, test=6)
        assert (pets / 'images.tar.gz').is_file()

    def test_another_checksum_is_refused(self, tmp_path, server):
        folder, address = server
        (folder / 'file.tar').write_text('changed')
        download = Download('file.tar', f'{address}/file.tar', md5='0' * 32)
        with pytest.raises(OSError, match=r'cannot be downloaded \(File not found or corrupted'):
            archives.fetch(download, tmp_path / 'root')
        assert not list((tmp_path / 'root').iterdir())

    def test_a_download_cut_short_is_made_again(self, tmp_path, server):
        folder, address = server
        (folder / 'file.tar').write_text('whole')
        root = tmp_path / 'root'
        root.mkdir()
        (root / 'file.tar.unfinished').write_text('wh')
        archives.fetch(Download('file.tar', f'{address}/file.tar'), root)
        assert [path.read_text() for path in root.iterdir()] == ['whole']

    def test_an_address_that_is_gone(self, tmp_path, server):
        download = Download('file.tar', f'{server[1]}/file.tar')
        with pytest.raises(OSError, match=r'cannot be downloaded \(HTTP Error 404.*as file.tar'):
            archives.fetch(download, tmp_path / 'root')


class TestChoice:
    """Splits that are drawn."""

    def test_another_seed_than_that_of_the_lists_is_refused(self, tmp_path):
        root = layouts.custom(tmp_path / 'custom')
        prepare(tiny('custom', seed=3), root)
        assert facts(tiny('custom'), root) == dict(split='random', test_percent=20, seed=3)
        assert prepare(tiny('custom'), root) is None
        assert prepare(tiny('custom', seed=3), root) is None
        with pytest.raises(ValueError, match=r"made with {'seed': 3}, not with {'seed': 4}"):
            prepare(tiny('custom', seed=4), root)

    def test_half_a_split_is_not_completed_by_another(self, tmp_path):
        root = layouts.custom(tmp_path / 'custom')
        prepare(tiny('custom', seed=3), root)
        (root / 'meta' / 'test.txt').unlink()
        with pytest.raises(ValueError, match=r"made with {'seed': 3}, not with .*'seed': 0"):
            prepare(tiny('custom'), root)
        assert prepare(tiny('custom', seed=3), root) == dict(train=8, test=2)
