"""Lists of a folder of the user's own images."""

import os
from collections import Counter

import pytest

from mmselfsup_invp.datasets.preparation import check, prepare, selection

from .. import layouts
from .lists import lines, read_lists, tiny


class TestCustom:
    def test_existing_splits_are_kept(self, tmp_path):
        root = layouts.custom(tmp_path, splits=True)
        (root / 'train' / 'class 0' / 'notes.txt').write_text('no image')
        (root / 'train' / 'class 0' / '._1.png').write_text('of another system')
        assert prepare(tiny('custom'), root) == dict(train=10, test=10)
        assert lines(root)[0] == 'train/class 0/0.png 0'

    @pytest.mark.parametrize('folder', ['train', '.'])
    def test_a_fifth_of_each_class_is_drawn(self, tmp_path, folder):
        layouts.custom(tmp_path / folder, classes=3, per_class=6)
        assert prepare(tiny('custom'), tmp_path) == dict(train=12, test=6)
        assert prepare(tiny('custom'), tmp_path) is None
        train, test = lines(tmp_path), lines(tmp_path, 'meta/test.txt')
        prefix = 'train/class ' if folder == 'train' else 'class '
        assert all(line.startswith(prefix) for line in train + test)
        assert Counter(line.rsplit(' ', 1)[1] for line in test) == {'0': 2, '1': 2, '2': 2}
        assert not {*train} & {*test}
        assert read_lists('custom', tmp_path)['test'] and check(tiny('custom'), tmp_path)

    def test_an_empty_test_folder(self, tmp_path):
        layouts.custom(tmp_path / 'train')
        (tmp_path / 'test').mkdir()
        with pytest.raises(ValueError, match=r'(?s)test: no image found.*into train/CLASS'):
            prepare(tiny('custom'), tmp_path)

    @pytest.mark.parametrize('folder', ['nowhere', 'train', '.'])
    def test_no_class_folders(self, tmp_path, folder):
        message = 'has no class folders. Create a folder for each class'
        if folder != 'nowhere':
            layouts.write_image(tmp_path / folder / '1.png', 0, 0)
            message = 'has no class folders. Its images have no class. Create a folder'
        with pytest.raises(FileNotFoundError, match=message):
            prepare(tiny('custom'), tmp_path)

    def test_a_list_of_the_user_is_left_unchanged(self, tmp_path):
        root = layouts.custom(tmp_path, splits=True)
        (root / 'meta').mkdir()
        (root / 'meta' / 'train.txt').write_text('class 0/0.png\n')
        with pytest.raises(ValueError, match='train.txt: not written by this.*--root') as raised:
            prepare(tiny('custom'), root)
        assert 'Delete' not in str(raised.value)
        assert lines(root) == ['class 0/0.png']

    def test_a_name_that_is_not_utf8_is_refused(self, tmp_path):
        root = layouts.custom(tmp_path, splits=True)
        image = root / 'train' / 'class 0' / '0.png'
        image.rename(os.fsdecode(os.fsencode(image.parent) + b'/caf\xe9.png'))
        with pytest.raises(ValueError, match=r"'train/class 0/caf\\xe9.png' cannot be put into"):
            prepare(tiny('custom'), root)
        assert not (root / 'meta' / 'train.txt').exists()

    def test_the_only_image_of_a_class_is_for_training(self, tmp_path):
        root = layouts.custom(tmp_path, classes=2)
        layouts.write_image(root / 'class 2' / '0.png', 2, 0)
        assert prepare(tiny('custom'), root) == dict(train=9, test=2)
        assert 'class 2/0.png 2' in lines(root)

    def test_a_class_of_the_test_folder_alone_is_named(self, tmp_path):
        root = layouts.custom(tmp_path, splits=True)
        (root / 'test' / 'empty').mkdir()
        layouts.write_image(root / 'test' / 'Class 1' / '0.png', 2, 0)
        message = r'test has classes without training images: Class 1 \(1 images\).* class 0, cla'
        with pytest.raises(ValueError, match=message):
            prepare(tiny('custom'), root)
        assert not (root / 'meta').exists()

    @pytest.mark.parametrize('splits', [True, False])
    def test_an_empty_class_folder_is_named(self, tmp_path, splits):
        root = layouts.custom(tmp_path, splits=splits)
        train = root / 'train' if splits else root
        layouts.write_image(train / 'class 9' / 'deeper' / '0.png', 2, 0)
        (train / 'class 8').mkdir()
        message = 'class folders without an image: class 8, class 9. Images must lie directly'
        with pytest.raises(ValueError, match=message):
            prepare(tiny('custom'), root)
        assert not (root / 'meta').exists()

    def test_a_class_may_be_named_meta(self, tmp_path):
        root = layouts.custom(tmp_path, splits=True)
        layouts.write_image(root / 'train' / 'meta' / '0.png', 2, 0)
        assert prepare(tiny('custom'), root) == dict(train=11, test=10)

    def test_images_elsewhere_are_counted(self, tmp_path):
        root = layouts.custom(tmp_path / 'mine', splits=True)
        others = ['train/0.png', 'train/1.png', 'test/class 1/deeper/0.png', 'val/class 0/0.png']
        for number, name in enumerate(others):
            layouts.write_image(root / name, 0, number)
        layouts.write_image(root / 'train' / '.hidden' / '0.png', 0, 0)
        (root / 'again').symlink_to(root / 'train', target_is_directory=True)
        (root / 'train' / 'class 0' / 'parent').symlink_to(root, target_is_directory=True)
        assert prepare(tiny('custom'), root) == dict(train=10, test=10)
        ignored = '4 (2 in again, 1 in test/class 1/deeper, 1 in val/class 0)'
        assert selection(tiny('custom'), root) == dict(split='folders', ignored=ignored)
