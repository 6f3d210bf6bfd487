"""Lists of each data set, read from tiny folders in its official layout."""

import os
from collections import Counter

import numpy as np
import pytest
from mmcls.datasets import VOC
from mmselfsup.datasets import ImageList as HostImageList
from PIL import Image
from torchvision import datasets
from torchvision.datasets import imagenet as tv_imagenet

from mmselfsup_invp.datasets.preparation import check, data_sets, prepare, selection

from .. import layouts
from .lists import lines, read_lists, tiny
from .test_converters import cifar_archive


@pytest.fixture(autouse=True)
def _unchecked_flowers():
    with layouts.unchecked_flowers():
        yield


@pytest.mark.parametrize(
    ('name', 'classes', 'prefix'),
    [
        ('imagenet', ['n01440764', 'n01443537', 'n01484850'], 'train'),
        (
            'places205',
            ['abbey', 'airport_terminal', 'alley'],
            'data/vision/torralba/deeplearning/images256',
        ),
        ('cars', ['Maker Model 0 2012', 'Maker Model 1 2012', 'Maker Model 2 2012'], '.'),
        ('pets', ['Abyssinian', 'American Bulldog', 'Yorkshire Terrier'], '.'),
        ('flowers', None, '.'),
        ('caltech101', ['Faces', 'accordion', 'airplanes'], '.'),
        ('custom', ['class 0', 'class 1', 'class 2'], '.'),
    ],
)
def test_every_class_is_in_every_split(tmp_path, name, classes, prefix):
    root = getattr(layouts, name)(tmp_path, classes=3)
    data_set = tiny(name)
    counts = prepare(data_set, root)
    assert data_set.lists[0].prefix == prefix
    found = read_lists(name, root)
    assert {split: len(samples) for split, samples in found.items()} == counts
    for samples in found.values():
        assert Counter(label for _, label in samples).keys() == {0, 1, 2}
        assert len({path for path, _ in samples}) == len(samples)
    assert not {path for path, _ in found['train']} & {p for p, _ in list(found.values())[1]}
    if classes:
        assert lines(root, 'meta/classes.txt') == classes


@pytest.mark.parametrize('name', data_sets())
def test_every_data_set_has_a_layout(tmp_path, name):
    """The tests of configs use them."""
    root = layouts.prepared(name, tmp_path)
    assert check(tiny(name), root).keys() == {item.file for item in data_sets()[name].lists}


BY_CLASS = [0, 0, 0, 1, 1, 1, 2, 2, 2]


class TestOfficialSplits:
    """Those that torchvision reads."""

    @pytest.mark.parametrize(
        ('name', 'train', 'test'),
        [
            ('cars', [0, 1, 2] * 3, [0, 1, 2] * 3),
            ('pets', BY_CLASS, BY_CLASS),
            ('flowers', BY_CLASS * 2, BY_CLASS),
        ],
    )
    def test_labels(self, tmp_path, name, train, test):
        root = getattr(layouts, name)(tmp_path, classes=3, per_class=3)
        prepare(tiny(name), root)
        found = read_lists(name, root)
        labels = {split: [label for _, label in samples] for split, samples in found.items()}
        assert labels == dict(train=train, test=test)
        for path, label in found['train'] + found['test']:
            colour = np.asarray(Image.open(path)).mean(axis=(0, 1))
            assert np.abs(colour - layouts.colour(label)).max() < 5

    def test_names_of_flowers(self, tmp_path):
        prepare(tiny('flowers'), layouts.flowers(tmp_path))
        numbers = [str(number) for number in range(1, 103)]  # Old torchvision has no names.
        expected = getattr(datasets.Flowers102, 'classes', numbers)
        assert lines(tmp_path, 'meta/classes.txt') == expected and len(expected) == 102


class TestImageNet:
    @pytest.fixture
    def devkit(self, monkeypatch):
        """Accept a development kit with another checksum."""
        name = tv_imagenet.ARCHIVE_META['devkit'][0]
        monkeypatch.setitem(tv_imagenet.ARCHIVE_META, 'devkit', (name, None))

    def test_paths_are_those_that_mmselfsup_expects(self, tmp_path):
        root = layouts.imagenet(tmp_path)
        assert prepare(tiny('imagenet', train=4, val=4), root) == dict(train=4, val=4)
        assert lines(root)[2] == 'n01443537/n01443537_0.JPEG 1'
        assert lines(root, 'meta/val.txt')[3] == 'n01443537/ILSVRC2012_val_00000004.JPEG 1'

    def test_flat_val_with_the_devkit(self, tmp_path, devkit):
        root = layouts.imagenet_devkit(layouts.imagenet(tmp_path, 3, flat=True), 3)
        prepare(tiny('imagenet', train=6, val=6), root)
        assert lines(root, 'meta/val.txt') == [
            f'ILSVRC2012_val_{n + 1:08d}.JPEG {n // 2}' for n in range(6)
        ]
        assert not (root / 'meta.bin').exists()

    def test_a_changed_devkit_is_refused(self, tmp_path):
        root = layouts.imagenet_devkit(layouts.imagenet(tmp_path, flat=True))
        with pytest.raises(ValueError, match='devkit_t12.tar.gz is not the published file'):
            prepare(tiny('imagenet'), root)

    def test_flat_val_with_the_labels_of_kaggle(self, tmp_path):
        root = layouts.imagenet(tmp_path, flat=True)
        rows = [
            f'ILSVRC2012_val_{n + 1:08d},{layouts.WNIDS[n // 2]} 1 2 3 4 ' for n in (3, 0, 2, 1)
        ]
        table = '\n'.join(['ImageId,PredictionString', *rows])
        (root / 'LOC_val_solution.csv').write_text(table)
        prepare(tiny('imagenet', val=4), root)
        assert lines(root, 'meta/val.txt')[1:3] == [
            'ILSVRC2012_val_00000002.JPEG 0', 'ILSVRC2012_val_00000003.JPEG 1',
        ]  # fmt: skip

    def test_flat_val_with_an_existing_list(self, tmp_path):
        root = layouts.imagenet(tmp_path, flat=True)
        (root / 'meta').mkdir()
        text = ''.join(f'ILSVRC2012_val_{n + 1:08d}.JPEG {n // 2}\n' for n in (3, 1))
        (root / 'meta' / 'val.txt').write_text(text)
        assert prepare(tiny('imagenet', val=2), root) == dict(train=4, val=2)
        assert (root / 'meta' / 'val.txt').read_text() == text

    def test_flat_val_without_labels(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='ILSVRC2012_devkit_t12.tar.gz'):
            prepare(tiny('imagenet'), layouts.imagenet(tmp_path, flat=True))

    def test_archives(self, tmp_path, devkit):
        """An archive of archives to train, a flat one to validate."""
        root = layouts.imagenet_devkit(layouts.imagenet(tmp_path, flat=True))
        train, val = root / 'train', root / 'val'
        for folder in list(train.iterdir()):
            layouts.pack(train / f'{folder.name}.tar', list(folder.iterdir()), folder)
            folder.rmdir()
        layouts.pack(root / 'ILSVRC2012_img_train.tar', list(train.iterdir()), train)
        layouts.pack(root / 'ILSVRC2012_img_val.tar', list(val.iterdir()), val)
        train.rmdir()
        val.rmdir()
        assert prepare(tiny('imagenet', train=4, val=4), root) == dict(train=4, val=4)
        assert lines(root)[3] == 'n01443537/n01443537_1.JPEG 1'
        assert len(list((root / 'val').iterdir())) == 4


class TestCaltech101:
    def test_thirty_of_each_class_train(self, tmp_path):
        root = layouts.caltech101(tmp_path, classes=3, per_class=34)
        assert prepare(tiny('caltech101', train=90, test=12), root) == dict(train=90, test=12)
        for split, size in (('train', 30), ('test', 4)):
            labels = Counter(line.split()[1] for line in lines(root, f'meta/{split}.txt'))
            assert labels == {'0': size, '1': size, '2': size}
        assert not any('BACKGROUND' in line for line in lines(root))
        assert selection(tiny('caltech101'), root)['seed'] == 0

    def test_the_seed_alone_decides(self, tmp_path):
        drawn = []
        for number, seed in enumerate((None, 0, 1)):
            root = layouts.caltech101(tmp_path / str(number), classes=2, per_class=34)
            prepare(tiny('caltech101', seed=seed), root)
            drawn.append(lines(root))
        assert drawn[0] == drawn[1] != drawn[2]

    def test_a_class_with_too_few_images(self, tmp_path):
        root = layouts.caltech101(tmp_path)
        for number in (31, 32):
            (root / f'101_ObjectCategories/accordion/image_{number:04d}.jpg').unlink()
        with pytest.raises(ValueError, match='accordion holds 30 images; 30 to train'):
            prepare(tiny('caltech101'), root)


class TestCIFAR:
    def test_unpacked_and_written(self, tmp_path, monkeypatch):
        root = tmp_path / 'cifar10'
        cifar_archive(root, monkeypatch)
        layouts.pack(root / 'cifar-10-python.tar.gz', [root / 'cifar-10-batches-py'])
        data_set = tiny('cifar10', train=15, test=3)
        assert prepare(data_set, root) == dict(train=15, test=3)
        found = read_lists('cifar10', root)
        assert all(f'/class{label}/' in path for path, label in found['train'])
        assert check(data_set, root)

    def test_only_the_classes_are_added_to_a_conversion(self, tmp_path):
        root = layouts.cifar(tmp_path, classes=3)
        (root / 'meta' / 'classes.txt').unlink()
        before = (root / 'meta' / 'train.txt').stat().st_mtime_ns
        assert prepare(tiny('cifar10', train=6, test=6), root) == dict(train=6, test=6)
        assert lines(root, 'meta/classes.txt') == ['airplane', 'automobile', 'bird']
        assert (root / 'meta' / 'train.txt').stat().st_mtime_ns == before


class TestVOC:
    def test_2007(self, tmp_path):
        root = layouts.voc(tmp_path, trainval=6, test=4)
        data_set = tiny('voc2007', trainval=6, test=4)
        assert prepare(data_set, root) == dict(trainval=6, test=4)
        assert prepare(data_set, root) is None
        assert check(data_set, root) == {'VOC2007/Lists/trainvaltest.txt': 10}
        host = HostImageList(
            ann_file='Lists/trainvaltest.txt',
            data_root=str(root / 'VOC2007'),
            data_prefix='JPEGImages/',
            pipeline=[],
        )
        paths = [host.get_data_info(index)['img_path'] for index in range(len(host))]
        assert [os.path.basename(path) for path in paths] == [f'{n:06d}.jpg' for n in range(1, 11)]

    def test_mmcls_reads_the_official_layout(self, tmp_path):
        root = layouts.voc(tmp_path, trainval=6, test=4)
        data_set = VOC(
            data_root=str(root / 'VOC2007'),
            image_set_path='ImageSets/Main/test.txt',
            pipeline=[],
        )
        info = data_set.get_data_info(0)  # Number 6 of all: classes 6 and 7, and 8, difficult.
        assert sorted(info['gt_label']) == [6, 7] and info['gt_label_difficult'] == [8]

    def test_2012(self, tmp_path):
        root = layouts.voc(tmp_path, 2012, trainval=5)
        assert prepare(tiny('voc2012', trainval=5), root) == dict(trainval=5)
        assert lines(root, 'VOC2012/Lists/trainval.txt')[0] == '2012_000001.jpg'

    def test_a_missing_annotation(self, tmp_path):
        root = layouts.voc(tmp_path, trainval=6, test=4)
        (root / 'VOC2007' / 'Annotations' / '000008.xml').unlink()
        with pytest.raises(FileNotFoundError, match='1 of 4 annotations of test .* 000008.xml'):
            prepare(tiny('voc2007'), root)
        assert not (root / 'VOC2007' / 'Lists').exists()
