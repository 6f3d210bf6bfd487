import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from mmselfsup_invp.compat.host import DATASETS
from mmselfsup_invp.datasets import ImageFiles, image_labels, num_images

from .. import toy

NAMES = [
    '1.png',
    'B/a cat.JPG',
    'B/deep/er/é.jpeg',
    'a b/ leading.Tiff',
    'a b/2.webp',
    'a b/10.png',
]


@pytest.fixture
def folder(tmp_path):
    """Empty files with names of images, and other files."""
    others = ['notes.txt', 'png', 'B/.hidden.png', '.cache/1.png', 'a b/1.png.part']
    for name in [*NAMES, *others]:
        path = tmp_path / 'my data/train' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'my data'


def names_of(dataset, folder):
    paths = [dataset.get_data_info(row)['img_path'] for row in range(len(dataset))]
    return [os.path.relpath(path, folder) for path in paths]


def listed(folder, content, **options):
    (folder / 'list.txt').write_bytes(content)
    return ImageFiles('list.txt', data_root=str(folder), data_prefix='train', **options)


class TestFolder:
    def test_all_images_are_found_in_order(self, folder):
        images = ImageFiles(data_root=str(folder), data_prefix='train')
        assert names_of(images, folder / 'train') == sorted(NAMES)
        assert images.get_data_info(3)['sample_idx'] == 3
        assert num_images(images) == 6 and image_labels(images) is None

    def test_the_order_is_not_that_of_the_file_system(self, folder, monkeypatch):
        scandir = os.scandir

        def reversed_entries(path):
            with scandir(path) as entries:
                return nullcontext(sorted(entries, key=lambda entry: entry.name, reverse=True))

        monkeypatch.setattr(os, 'scandir', reversed_entries)
        images = ImageFiles(data_root=str(folder), data_prefix='train')
        assert names_of(images, folder / 'train') == sorted(NAMES)

    @pytest.mark.parametrize(
        'where',
        [
            lambda root: dict(data_root=f'{root}/train'),
            lambda root: dict(data_prefix=f'{root}/train'),
            lambda root: dict(data_root=f'{root}/', data_prefix=dict(img_path='train/')),
        ],
    )
    def test_root_and_prefix(self, folder, where):
        assert names_of(ImageFiles(**where(folder)), folder / 'train') == sorted(NAMES)

    def test_links_are_followed(self, folder):
        (folder / 'linked').mkdir()
        (folder / 'linked/group').symlink_to(folder / 'train/B')
        (folder / 'linked/one.png').symlink_to(folder / 'train/1.png')
        images = ImageFiles(data_root=str(folder), data_prefix='linked')
        expected = ['group/a cat.JPG', 'group/deep/er/é.jpeg', 'one.png']
        assert names_of(images, folder / 'linked') == expected

    @pytest.mark.parametrize('target', ['..', '.', '../a b'])
    def test_a_link_to_a_folder_of_the_same_images_is_refused(self, folder, target):
        """A link to a parent would otherwise be followed until the path is too long."""
        (folder / 'train/B/link').symlink_to(target)
        with pytest.raises(ValueError, match='train/B.* are the same folder.*Remove the link'):
            ImageFiles(data_root=str(folder), data_prefix='train')

    def test_two_links_to_a_folder_are_refused(self, folder):
        (folder / 'linked').mkdir()
        for name in ('one', 'two'):
            (folder / 'linked' / name).symlink_to(folder / 'train')
        with pytest.raises(
            ValueError, match='linked/(one|two) and .*linked/(one|two) are the same'
        ):
            ImageFiles(data_root=str(folder), data_prefix='linked')

    @pytest.mark.parametrize('kind', ['FIFO', 'broken link'])
    def test_what_is_no_regular_file_is_named(self, folder, kind):
        path = folder / 'train/B/last.png'
        os.mkfifo(path) if kind == 'FIFO' else path.symlink_to('nowhere.png')
        with pytest.raises(ValueError, match=f'{path} is no regular file.*Remove it'):
            ImageFiles(data_root=str(folder), data_prefix='train')

    def test_names_that_are_not_utf8(self, folder):
        path = os.fsencode(folder / 'train') + b'/caf\xe9.png'
        Path(os.fsdecode(path)).touch()
        images = ImageFiles(data_root=str(folder), data_prefix='train')
        found = [os.fsencode(images.get_data_info(row)['img_path']) for row in range(7)]
        assert len(images) == 7 and path in found

    def test_other_extensions(self, folder):
        images = ImageFiles(data_root=str(folder), data_prefix='train', extensions=['.PART'])
        assert names_of(images, folder / 'train') == ['a b/1.png.part']

    @pytest.mark.parametrize('prefix', ['tain', 'train/1.png'])
    def test_a_missing_folder_is_named(self, folder, prefix):
        message = rf'^The folder .*{prefix}.* does not exist.*data_root and data_prefix'
        with pytest.raises(FileNotFoundError, match=message):
            ImageFiles(data_root=str(folder), data_prefix=prefix)

    def test_no_folder(self):
        with pytest.raises(FileNotFoundError, match="The folder '' does not exist"):
            ImageFiles()

    def test_an_empty_folder_is_named(self, tmp_path):
        (tmp_path / 'notes.txt').touch()
        places = re.escape(f'ImageFiles holds no image: no name below {tmp_path}/ ends in .jpg, ')
        with pytest.raises(ValueError, match=f'{places}.*data_root.*or set extensions'):
            ImageFiles(data_root=str(tmp_path))

    def test_an_unreadable_folder_is_not_skipped(self, folder, monkeypatch):
        scandir = os.scandir

        def refuse(path):
            if str(path).endswith('deep'):
                raise PermissionError(13, 'Permission denied', str(path))
            return scandir(path)

        monkeypatch.setattr(os, 'scandir', refuse)
        with pytest.raises(PermissionError, match='B/deep'):
            ImageFiles(data_root=str(folder), data_prefix='train')


class TestList:
    def test_the_order_is_kept(self, folder):
        images = listed(folder, b'B/a cat.JPG\n./1.png\na b/10.png\n')
        assert names_of(images, folder / 'train') == ['B/a cat.JPG', '1.png', 'a b/10.png']
        assert image_labels(images) is None

    @pytest.mark.parametrize(
        'content',
        [
            b'1.png\r\na b/10.png\r\n',
            b'\xef\xbb\xbf1.png\na b/10.png',
            b'\n1.png\n\n \na b/10.png\n\r\n\n',
            b'1.png \na b/10.png\t\n',
        ],
    )
    def test_blank_lines_and_other_line_ends(self, folder, content):
        assert names_of(listed(folder, content), folder / 'train') == ['1.png', 'a b/10.png']

    def test_names_may_have_any_encoding_and_extension(self, folder):
        path = os.fsencode(folder / 'train') + b'/caf\xe9'
        Path(os.fsdecode(path)).touch()
        found = listed(folder, b'caf\xe9\n').get_data_info(0)['img_path']
        assert os.path.exists(found) and os.fsencode(found) == path

    def test_a_missing_list_is_named(self, folder):
        message = r"^The list .*my data/meta\.txt does.*ann_file=''.*below .*my data/train"
        with pytest.raises(FileNotFoundError, match=message):
            ImageFiles('meta.txt', data_root=str(folder), data_prefix='train')

    def test_an_empty_list_is_named(self, folder):
        with pytest.raises(ValueError, match=r'ImageFiles holds no image\..*my data/list\.txt'):
            listed(folder, b'\n\n')


@pytest.mark.parametrize(
    'name', ['ImageFiles', 'mmselfsup.ImageFiles', 'mmselfsup_invp.ImageFiles']
)
def test_a_config_finds_it_by_name(folder, name):
    config = dict(type=name, data_root=str(folder), data_prefix='train')
    assert isinstance(toy.build_dataset(config), ImageFiles)
    assert DATASETS.get('ImageFiles') is ImageFiles


@pytest.fixture
def spaced(images, tmp_path):
    """The images of the other tests, with blanks in the names of files and folders."""
    for path in sorted((images / 'train').iterdir()):
        target = tmp_path / 'my images' / f'group {path.stem[-1]}' / f'no {path.name}'
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path / 'my images'


def loader_of(folder, ann_file=''):
    loader = toy.loader(folder, views=toy.VIEWS)
    loader['dataset'].update(type='ImageFiles', ann_file=ann_file, data_prefix='')
    return loader


def test_names_with_blanks_are_trained_on(spaced, tmp_path):
    runner = toy.build_runner(
        spaced, tmp_path / 'work', epochs=1, train_dataloader=loader_of(spaced)
    )
    runner.train()
    assert runner.iter == 3 and len(runner.model.memory) == 24


def test_a_missing_image_of_the_list_is_named(spaced):
    (spaced / 'list.txt').write_text('group 0/no 000.png\nno such.png\n')
    images = toy.build_dataset(loader_of(spaced, 'list.txt')['dataset'])
    assert images[0]['inputs'][0].shape == (3, 16, 16)
    with pytest.raises(RuntimeError, match=r'Cannot read the image .*my images/no such\.png \('):
        images[1]


def test_added_files_are_noticed_on_resuming(spaced, tmp_path):
    """The rows of the bank would belong to other images."""
    options = dict(
        train_dataloader=loader_of(spaced), default_hooks=dict(checkpoint=dict(interval=1))
    )
    toy.build_runner(spaced, tmp_path / 'work', epochs=1, **options).train()
    shutil.copy(spaced / 'group 0/no 000.png', spaced / 'another one.png')
    again = toy.build_runner(spaced, tmp_path / 'work', epochs=2, resume=True, **options)
    with pytest.raises(ValueError, match='The checkpoint holds .* this run has .25, 16.'):
        again.train()


class TestBrokenImages:
    @pytest.fixture
    def root(self, tmp_path):
        root = toy.image_folder(tmp_path / 'images', images=8)
        for name in ('002.png', '003.png', '007.png'):
            (root / 'train' / name).write_bytes(b'broken')
        return root

    def config(self, root, broken, num_workers):
        config = toy.loader(root, batch_size=4, num_workers=num_workers)
        dataset = config['dataset']
        options = dict(data_root=str(root), data_prefix='train', pipeline=dataset['pipeline'])
        config['dataset'] = dict(type='ImageFiles', broken=broken, **options)
        return config

    @pytest.mark.parametrize('num_workers', [0, 2])
    def test_the_next_image_takes_the_place_with_its_own_id(self, root, num_workers):
        loader = toy.build_loader(self.config(root, 'skip', num_workers))
        ids = [row for batch in loader for row in batch['data_samples'].ids.tolist()]
        assert ids == [0, 1, 4, 4, 4, 5, 6, 0]
        assert loader.dataset.skipped.nonzero().flatten().tolist() == [2, 3, 7]
        toy.stop_workers(loader)

    def test_by_default_the_run_ends(self, root):
        loader = toy.build_loader(self.config(root, 'raise', 0))
        with pytest.raises(RuntimeError, match=r'Cannot read the image .*002\.png'):
            list(loader)

    def test_a_folder_of_broken_images_is_an_error(self, root):
        for path in (root / 'train').iterdir():
            path.write_bytes(b'broken')
        dataset = toy.build_dataset(self.config(root, 'skip', 0)['dataset'])
        with pytest.raises(RuntimeError, match='None of the 8 images below .* can be read'):
            dataset[5]
