"""The steps of a preparation, mostly on the pets."""

import os
import shutil

import pytest
from PIL import Image

from mmselfsup_invp.datasets import files
from mmselfsup_invp.datasets.preparation import check, data_sets, images, prepare, selection
from mmselfsup_invp.datasets.preparation.lists import format_line, parse_line

from .. import layouts

LISTS = ('classes.txt', 'train.txt', 'test.txt')
PETS = layouts.data_set('pets', train=6, test=6)


def state_of(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob('*') if path.is_file()}


@pytest.fixture
def pets(tmp_path):
    return layouts.pets(tmp_path / 'pets', classes=3)


class TestLists:
    def test_written_once(self, pets):
        assert PETS.missing_files(pets) == [f'meta/{name}' for name in LISTS]
        assert prepare(PETS, pets) == dict(train=6, test=6)
        assert (pets / 'meta' / 'train.txt').read_text().splitlines()[1:3] == [
            'images/Abyssinian_2.jpg 0',
            'images/american_bulldog_1.jpg 1',
        ]
        before = state_of(pets)
        assert prepare(PETS, pets) is None
        assert check(PETS, pets) == {'meta/train.txt': 6, 'meta/test.txt': 6}
        assert state_of(pets) == before

    def test_an_existing_list_is_kept(self, pets):
        prepare(PETS, pets)
        lines = (pets / 'meta' / 'train.txt').read_text().splitlines()[::-1]
        (pets / 'meta' / 'train.txt').write_text('\n'.join(lines) + '\n')
        (pets / 'meta' / 'test.txt').unlink()
        prepare(PETS, pets)
        assert (pets / 'meta' / 'train.txt').read_text().splitlines() == lines
        assert (pets / 'meta' / 'test.txt').is_file()

    @pytest.mark.parametrize('function', [prepare, check])
    def test_a_list_of_wrong_length_is_refused(self, pets, function):
        prepare(PETS, pets)
        with (pets / 'meta' / 'test.txt').open('a') as file:
            file.write('images/more.jpg 0\n')
        with pytest.raises(ValueError, match=r'test.txt lists 7 images, 6 are expected'):
            function(PETS, pets)

    def test_a_list_with_other_labels_is_not_completed(self, pets):
        (pets / 'meta').mkdir()
        (pets / 'meta' / 'test.txt').write_text(
            ''.join(f'images/Abyssinian_{n}.jpg 1\n' for n in (101, 102))
        )
        with pytest.raises(ValueError, match=r'test.txt differs .* in 8 lines:\n  images/Abyss'):
            prepare(layouts.data_set('pets'), pets)
        assert not (pets / 'meta' / 'train.txt').exists()

    @pytest.mark.parametrize('interrupted', LISTS)
    def test_an_interrupted_write_leaves_no_list(self, pets, monkeypatch, interrupted):
        replace = files.os.replace

        def stop(source, target):
            if target.name == interrupted:
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr(files.os, 'replace', stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(PETS, pets)
        assert not (pets / 'meta' / interrupted).exists()
        assert f'meta/{interrupted}' in PETS.missing_files(pets)
        monkeypatch.undo()
        assert prepare(PETS, pets) == dict(train=6, test=6)
        assert sorted(path.name for path in (pets / 'meta').iterdir()) == sorted(LISTS)

    @pytest.mark.parametrize('name', [os.fsdecode(b'caf\xe9.jpg'), 'a\nb.jpg', 'a.jpg ', ' a.jpg'])
    def test_names_that_a_list_cannot_hold_are_refused(self, name):
        with pytest.raises(ValueError, match='cannot be put into a list.*Rename') as raised:
            format_line((name, 3))
        str(raised.value).encode()  # Can be printed.

    def test_lines(self):
        for sample in (('a b/ü\u202f1.jpg', 3), ('1.jpg', None)):
            assert parse_line(format_line(sample)) == sample
        with pytest.raises(ValueError, match="'a.jpg, 0,' is no line of a list"):
            parse_line('a.jpg, 0,\n')


class TestUnreadableImages:
    def test_named_with_the_reason(self, pets):
        folder = pets / 'images'
        whole = (folder / 'Abyssinian_1.jpg').read_bytes()
        (folder / 'Abyssinian_1.jpg').write_bytes(whole[:-20])
        (folder / 'Abyssinian_102.jpg').unlink()
        (folder / 'american_bulldog_1.jpg').write_text('no image')
        (folder / 'american_bulldog_2.jpg').unlink()
        os.mkfifo(folder / 'american_bulldog_2.jpg')
        with pytest.raises(ValueError, match='is incomplete') as raised:
            prepare(layouts.data_set('pets', train=6, test=7), pets)
        message = str(raised.value)
        assert 'test: 6 images found, 7 expected.' in message and 'train:' not in message
        assert '4 images are missing or broken' in message
        for line in (
            'Abyssinian_1.jpg (broken: image file is truncated',
            'Abyssinian_102.jpg (missing)',
            'american_bulldog_1.jpg (no image)',
            'american_bulldog_2.jpg (not a regular file)',
        ):
            assert f'{folder}/{line}' in message
        assert f'python tools/prepare_data.py pets --root {pets}' in message
        assert not (pets / 'meta').exists()

    def test_quick_does_not_open_them(self, pets):
        broken, missing = (pets / 'images' / f'Abyssinian_{n}.jpg' for n in (1, 2))
        broken.write_bytes(b'')
        assert prepare(PETS, pets, quick=True) == dict(train=6, test=6)
        assert check(PETS, pets, quick=True)
        with pytest.raises(ValueError, match='1 images are missing or broken'):
            check(PETS, pets)
        missing.unlink()
        with pytest.raises(ValueError, match=r'Abyssinian_2.jpg \(missing\)'):
            check(PETS, pets, quick=True)

    def test_several_processes_find_the_same(self, tmp_path, monkeypatch):
        paths = [str(tmp_path / f'{n}.png') for n in range(7)]
        for path in paths[:5]:
            Image.new('L', (2, 2)).save(path)
        monkeypatch.setattr(images, 'CHUNK', 2)
        assert images.find_unreadable(paths, 'x', processes=2) == [
            f'{path} (missing)' for path in paths[5:]
        ]
        assert images.find_unreadable([], 'x') == []

    def test_ten_are_named_and_the_others_counted(self):
        text = files.shorten([f'image {n}' for n in range(1234)])
        assert text.splitlines()[:2] == ['  image 0', '  image 1']
        assert text.splitlines()[9:] == ['  image 9', '  and 1,224 more']
        assert files.shorten(['a', 'b']) == '  a\n  b'


class TestAnnotations:
    def test_missing(self, tmp_path):
        root = layouts.cars(tmp_path)
        (root / 'devkit' / 'cars_meta.mat').unlink()
        message = f'{root}/devkit/cars_meta.mat is missing: Stanford Cars was unpacked in part'
        with pytest.raises(FileNotFoundError, match=message):
            prepare(layouts.data_set('cars'), root)

    @pytest.mark.parametrize(
        ('name', 'file'), [('flowers', 'setid.mat'), ('cars', 'devkit/cars_meta.mat')]
    )
    def test_damaged(self, tmp_path, name, file):
        root = getattr(layouts, name)(tmp_path)
        (root / file).write_bytes(b'<html>Not found</html>' * 10)
        with pytest.raises(ValueError, match=f'The annotations in {root} are damaged'):
            prepare(layouts.data_set(name), root)


class TestMissingDownloads:
    def test_the_message_says_what_to_do(self, tmp_path):
        root = tmp_path / 'pets'
        with pytest.raises(FileNotFoundError) as raised:
            prepare(data_sets()['pets'], root)
        for part in (
            'images.tar.gz (792 MB, MD5 5c4f3ee8e5d25df40f4fd59a7f44e54c)',
            'https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz',
            f'into {root} and run\n  python tools/prepare_data.py pets --root {root}',
        ):
            assert part in str(raised.value)
        assert not root.exists()

    def test_only_what_is_missing_is_listed(self, pets):
        shutil.rmtree(pets / 'annotations')
        with pytest.raises(FileNotFoundError) as raised:
            check(PETS, pets)
        assert 'annotations.tar.gz' in str(raised.value)
        assert 'images.tar.gz' not in str(raised.value)

    def test_check_before_the_preparation(self, pets):
        with pytest.raises(FileNotFoundError, match='is not prepared; missing: meta/classes.txt, '):
            check(PETS, pets)
        assert not (pets / 'meta').exists()

    @pytest.mark.parametrize('name', [n for n, item in data_sets().items() if item.downloads])
    def test_every_data_set_names_files_and_addresses(self, name, tmp_path):
        with pytest.raises(FileNotFoundError) as raised:
            prepare(data_sets()[name], tmp_path)
        downloads = data_sets()[name].downloads
        assert downloads[0].file in str(raised.value)
        assert all(item.url.startswith('http') for item in downloads)


class TestSelection:
    """Random splits."""

    def test_another_seed_than_that_of_the_lists_is_refused(self, tmp_path):
        root = layouts.custom(tmp_path / 'custom')
        prepare(layouts.data_set('custom', seed=3), root)
        default = layouts.data_set('custom')
        assert selection(default, root) == dict(split='random', test_percent=20, seed=3)
        assert prepare(default, root) is None
        assert prepare(layouts.data_set('custom', seed=3), root) is None
        with pytest.raises(ValueError, match=r"drawn with {'seed': 3}, not with {'seed': 4}"):
            prepare(layouts.data_set('custom', seed=4), root)

    def test_half_a_split_is_not_completed_by_another(self, tmp_path):
        root = layouts.custom(tmp_path / 'custom')
        prepare(layouts.data_set('custom', seed=3), root)
        (root / 'meta' / 'test.txt').unlink()
        with pytest.raises(ValueError, match=r"drawn with {'seed': 3}, not with .*'seed': 0"):
            prepare(layouts.data_set('custom'), root)
        assert prepare(layouts.data_set('custom', seed=3), root) == dict(train=8, test=2)
