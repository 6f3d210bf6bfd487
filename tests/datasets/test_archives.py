"""Downloading and unpacking, with damaged and hostile archives."""

import dataclasses
import hashlib
import io
import stat
import tarfile
import zipfile
from collections import namedtuple
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from mmselfsup_invp.datasets.preparation import Download, archives, data_sets, prepare
from mmselfsup_invp.datasets.preparation.archives import UnsafeArchive, fetch, unpack

from .. import layouts

PETS = ['annotations', 'annotations.tar.gz', 'images', 'images.tar.gz', 'meta']
IMAGES = Download('images.tar.gz', 'https://page', ('images',))


def tar(path, *members):
    """Write an archive of (name, content or attributes of the TarInfo) and return its bytes."""
    with tarfile.open(path, 'w:gz' if path.name.endswith('gz') else 'w') as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(info, key, value)
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path.read_bytes()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / 'data' / 'pets'
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def packed(tmp_path):
    """The pets as they are downloaded."""
    root = layouts.pets(tmp_path / 'pets', classes=3)
    for name in ('images', 'annotations'):
        layouts.pack(root / f'{name}.tar.gz', [root / name])
    return root


class TestUnpack:
    def test_archives_are_unpacked_and_kept(self, packed):
        assert prepare(layouts.data_set('pets', train=6, test=6), packed) == dict(train=6, test=6)
        assert sorted(path.name for path in packed.iterdir()) == PETS

    def test_interrupted_unpacking_is_repeated(self, packed, monkeypatch):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(archives.shutil, 'copytree', stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(layouts.data_set('pets'), packed)
        (packed / 'images').mkdir()  # As if it was stopped while files were moved.
        monkeypatch.undo()
        assert prepare(layouts.data_set('pets'), packed) == dict(train=6, test=6)
        assert not list(packed.glob('.*'))

    @pytest.mark.parametrize('keep', [0.5, 0.0])
    def test_truncated_archive(self, packed, keep):
        whole = (packed / 'images.tar.gz').read_bytes()
        (packed / 'images.tar.gz').write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ValueError, match=r'images.tar.gz is damaged .* Delete it and get it'):
            prepare(layouts.data_set('pets'), packed)
        assert not (packed / 'images').exists() and not list(packed.glob('.*'))

    @pytest.mark.parametrize('name', ['images.tar.gz', 'caltech-101.zip'])
    def test_web_page_instead_of_an_archive(self, root, name):
        (root / name).write_text('<html>Log in</html>')
        with pytest.raises(ValueError, match=f'{name} is damaged .* from https://page'):
            unpack(Download(name, 'https://page', ('images',)), root)
        assert [path.name for path in root.iterdir()] == [name]

    def test_full_disk_is_not_reported_as_damage(self, packed, monkeypatch):
        def full(*_, **__):
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(tarfile.TarFile, 'extract', full)
        with pytest.raises(OSError, match='No space left'):
            prepare(layouts.data_set('pets'), packed)
        assert not list(packed.glob('.*'))

    def test_caltech101_is_an_archive_in_an_archive(self, tmp_path):
        root = layouts.caltech101(tmp_path / 'caltech')
        inner = layouts.pack(root / '101_ObjectCategories.tar.gz', [root / '101_ObjectCategories'])
        with zipfile.ZipFile(root / 'caltech-101.zip', 'w') as file:
            file.write(inner, f'caltech-101/{inner.name}')
            file.writestr('__MACOSX/._101', 'of no use')
        inner.unlink()
        assert prepare(layouts.data_set('caltech101'), root) == dict(train=60, test=4)
        assert not (root / '__MACOSX').exists()

    def test_both_years_of_voc_share_a_folder(self, tmp_path):
        source = layouts.voc(tmp_path / 'VOCdevkit', 2007, trainval=3, test=2)
        layouts.voc(source, 2012, trainval=4)
        root = tmp_path / 'data'
        root.mkdir()
        year = source / 'VOC2007'
        test = [*sorted(year.rglob('00000[45].*')), *year.glob('ImageSets/Main/*test.txt')]
        layouts.pack(root / 'VOCtest_06-Nov-2007.tar', test, tmp_path)
        layouts.pack(root / 'VOCtrainval_06-Nov-2007.tar', [year], tmp_path)
        layouts.pack(root / 'VOCtrainval_11-May-2012.tar', [source / 'VOC2012'], tmp_path)
        assert prepare(layouts.data_set('voc2007'), root) == dict(trainval=3, test=2)
        assert prepare(layouts.data_set('voc2012'), root) == dict(trainval=4)
        assert len(list((root / 'VOC2007' / 'JPEGImages').iterdir())) == 5


OUTSIDE = 'leads out of the folder'
LINK = 'is a link or a special file'
HOSTILE_TAR = {
    'parent': (('images/../../evil', b'x'), OUTSIDE),
    'absolute': (('/tmp/evil', b'x'), OUTSIDE),
    'windows drive': (('C:\\evil', b'x'), OUTSIDE),
    'backslashes': (('images\\..\\..\\evil', b'x'), OUTSIDE),
    'symbolic link out': (('images', dict(type=tarfile.SYMTYPE, linkname='../..')), LINK),
    'symbolic link inside': (('images/a', dict(type=tarfile.SYMTYPE, linkname='b')), LINK),
    'hard link': (('images/a', dict(type=tarfile.LNKTYPE, linkname='/etc/passwd')), LINK),
    'FIFO': (('images/a.jpg', dict(type=tarfile.FIFOTYPE)), LINK),
    'device': (('images/a.jpg', dict(type=tarfile.CHRTYPE, devmajor=1, devminor=5)), LINK),
}


class TestHostileArchives:
    """Nothing is written outside of the folder, and nothing stays inside of it."""

    def refused(self, download, root, match):
        before = sorted(path.name for path in root.iterdir())
        with pytest.raises(UnsafeArchive, match=match) as raised:
            unpack(download, root)
        assert str(raised.value).startswith(f'{root / download.file} is not unpacked: its member ')
        assert sorted(path.name for path in root.iterdir()) == before
        assert [path.name for path in root.parent.iterdir()] == [root.name]

    @pytest.mark.parametrize('kind', HOSTILE_TAR)
    def test_tar(self, root, kind):
        member, reason = HOSTILE_TAR[kind]
        tar(root / 'images.tar.gz', ('images/1.jpg', b'fine'), member)
        self.refused(IMAGES, root, reason)

    @pytest.mark.parametrize('name', ['../evil', '/evil', 'C:/evil', 'images/../../evil'])
    def test_zip(self, root, name):
        with zipfile.ZipFile(root / 'images.zip', 'w') as archive:
            archive.writestr('images/1.jpg', 'fine')
            archive.writestr(name, 'x')
        self.refused(Download('images.zip', 'https://page', ('images',)), root, OUTSIDE)

    def test_link_in_a_zip(self, root):
        with zipfile.ZipFile(root / 'images.zip', 'w') as archive:
            info = zipfile.ZipInfo('images')
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, '../..')
        self.refused(Download('images.zip', 'https://page', ('images',)), root, LINK)

    @pytest.mark.parametrize(
        ('inner', 'members'),
        [
            ('../n1.tar', [('evil', b'x')]),
            ('/n1.tar', [('evil', b'x')]),
            ('...tar', [('evil', b'x')]),
            ('n1.tar', [('../../../evil', b'x')]),
        ],
    )
    def test_nested_archive(self, root, tmp_path, inner, members):
        content = tar(tmp_path / 'data' / 'inner.tar', *members)
        (tmp_path / 'data' / 'inner.tar').unlink()
        tar(root / 'train.tar', (inner, content))
        self.refused(
            Download('train.tar', 'https://page', ('train',), target='train', nested=True),
            root,
            OUTSIDE,
        )

    def test_archives_are_not_unpacked_unless_expected(self, root, tmp_path):
        inner = tar(tmp_path / 'inner.tar', ('a.jpg', b'x'))
        middle = tar(tmp_path / 'middle.tar', ('n1.tar', inner))
        tar(root / 'images.tar.gz', ('images/n1.tar', inner))
        unpack(IMAGES, root)
        assert (root / 'images' / 'n1.tar').read_bytes() == inner
        tar(root / 'train.tar', ('n0.tar', middle))
        nested = Download('train.tar', 'https://page', ('train',), target='train', nested=True)
        unpack(nested, root)  # One level, as ImageNet has.
        assert (root / 'train' / 'n0' / 'n1.tar').read_bytes() == inner

    @pytest.mark.parametrize('suffix', ['tar.gz', 'zip'])
    def test_bomb(self, root, monkeypatch, suffix):
        monkeypatch.setattr(archives, 'MIN_LIMIT', 10**6)
        path, zeros = root / f'images.{suffix}', bytes(10**7)
        if suffix == 'zip':
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
                archive.writestr('images/bomb.jpg', zeros)
        else:
            tar(path, ('images/bomb.jpg', zeros))
        assert path.stat().st_size < 20_000
        download = Download(path.name, 'https://page', ('images',))
        self.refused(download, root, r"'images/bomb.jpg' exceeds the limit of 0\.0 GB")

    def test_bomb_of_empty_files(self, root, monkeypatch):
        monkeypatch.setattr(archives, 'MIN_LIMIT', 10**6)
        tar(root / 'images.tar.gz', *((f'images/{n}', b'') for n in range(300)))
        self.refused(IMAGES, root, 'exceeds the limit')

    @pytest.mark.parametrize('size', [100, 10**6])
    def test_too_little_space(self, root, monkeypatch, size):
        """Known from the archive's own size, or while unpacking."""
        usage = namedtuple('usage', 'total used free')
        monkeypatch.setattr(archives.shutil, 'disk_usage', lambda _: usage(9, 8, size))
        tar(root / 'images.tar.gz', ('images/1.jpg', bytes(10**6)))
        with pytest.raises(OSError, match=r'images.tar.gz needs at least .* has 0.00 GB left'):
            unpack(IMAGES, root)
        assert [path.name for path in root.iterdir()] == ['images.tar.gz']


class TestFetch:
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

    def test_missing_files_are_fetched(self, packed, server, tmp_path):
        folder, address = server
        downloads = []
        for name in ('images', 'annotations'):
            archive = (packed / f'{name}.tar.gz').rename(folder / f'{name}.tar.gz')
            md5 = hashlib.md5(archive.read_bytes()).hexdigest()
            downloads.append(Download(archive.name, f'{address}/{archive.name}', (name,), md5))
        data_set = layouts.data_set('pets', train=6, test=6)
        data_set = dataclasses.replace(data_set, downloads=tuple(downloads))
        root = tmp_path / 'fetched'
        assert prepare(data_set, root, download=True) == dict(train=6, test=6)
        assert sorted(path.name for path in root.iterdir()) == PETS

    @pytest.mark.parametrize(
        ('file', 'message'),
        [('file.tar', 'File not found or corrupted'), ('gone.tar', 'HTTP Error 404')],
    )
    def test_wrong_checksum_or_address(self, root, server, file, message):
        folder, address = server
        (folder / 'file.tar').write_text('changed')
        with pytest.raises(OSError, match=rf'{file} failed \({message}.*other means .* as {file}'):
            fetch(Download(file, f'{address}/{file}', md5='0' * 32), root)
        assert not list(root.iterdir())

    def test_interrupted_download_is_repeated(self, root, server):
        folder, address = server
        (folder / 'file.tar').write_text('whole')
        (root / 'file.tar.unfinished').write_text('wh')
        md5 = hashlib.md5(b'whole').hexdigest()
        fetch(Download('file.tar', f'{address}/file.tar', md5=md5), root)
        assert [path.read_text() for path in root.iterdir()] == ['whole']

    def test_only_files_with_a_checksum_are_fetched(self, tmp_path):
        listing = Download('a.tar', 'https://page/a.tar', ('a',))
        assert not listing.direct
        assert dataclasses.replace(listing, md5='0' * 32).direct
        assert not dataclasses.replace(listing, md5='0' * 32, url='https://page').direct
        data_set = dataclasses.replace(data_sets()['places205'], downloads=(listing,))
        with pytest.raises(FileNotFoundError, match='a.tar\n    https://page/a.tar\n'):
            prepare(data_set, tmp_path, download=True)

    def test_direct_downloads(self):
        direct = {
            name: [item.file for item in data_set.downloads if item.direct]
            for name, data_set in data_sets().items()
        }
        assert direct['imagenet'] == direct['places205'] == direct['cars'] == []
        assert direct['caltech101'] == ['caltech-101.zip']
        for name in ('voc2007', 'voc2012', 'cifar10', 'cifar100', 'pets', 'flowers'):
            assert direct[name] == [item.file for item in data_sets()[name].downloads]
