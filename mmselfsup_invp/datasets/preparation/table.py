"""The data sets of the evaluation."""

from functools import partial
from pathlib import Path

from torchvision import datasets
from torchvision.datasets.imagenet import ARCHIVE_META
from torchvision.datasets.voc import DATASET_YEAR_DICT

from . import folders, readers
from .data_set import DataSet, Download, ImageList

IMAGENET = 'https://image-net.org/challenges/LSVRC/2012/2012-downloads.php'
PLACES = 'http://places.csail.mit.edu/downloadData.html'
PLACES_FILES = 'http://data.csail.mit.edu/places/places205'
PLACES_LISTS = 'trainvalsplit_places205'
PLACES_IMAGES = 'data/vision/torralba/deeplearning/images256'
CARS = 'https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset'
CARS_KIT = 'https://github.com/pytorch/vision/issues/7545'
CALTECH = 'https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip'
CALTECH_IMAGES = '101_ObjectCategories'
FLOWERS = 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102'
PETS = 'https://www.robots.ox.ac.uk/~vgg/data/pets/data'


def _lists(**prefixes: str) -> dict[str, tuple[ImageList, ...]]:
    """``meta/SPLIT.txt`` for each split, with the folder that its paths start from."""
    return dict(
        lists=tuple(ImageList(f'meta/{s}.txt', (s,), prefix) for s, prefix in prefixes.items())
    )


def _imagenet(split: str, size: str, provides: tuple[str, ...], **options: object) -> Download:
    file, md5 = ARCHIVE_META[split]
    return Download(file, IMAGENET, provides, md5, size, **options)


def _imagenet_subset(percent: int, subset_list: Path | None, seed: int | None) -> DataSet:
    read = partial(folders.read_subset, percent=percent, subset_list=subset_list, seed=seed or 0)
    return DataSet(
        f'imagenet-{percent}percent',
        f'{percent} % of ImageNet',
        'data/imagenet',
        read,
        lists=(ImageList(f'meta/train_{percent}percent.txt', ('train',), 'train'),),
        has_classes=False,
        selection_file=f'meta/train_{percent}percent.json',
        requested=_seed(seed) if subset_list is None else dict(source=subset_list.name),
        note=f'SimCLR published {folders.SIMCLR_LISTS}{percent}percent.txt; pass it as '
        '--subset-list. Otherwise the images are drawn at random.',
    )


def _voc(year: int, size: dict[str, str], counts: dict[str, int]) -> DataSet:
    def archive(split: str) -> Download:
        source = DATASET_YEAR_DICT[f'{year}-test' if split == 'test' else str(year)]
        provides = (f'VOC{year}/ImageSets/Main/{split}.txt',)
        file, url, md5 = source['filename'], source['url'], source['md5']
        return Download(file, url, provides, md5, size[split], strip='VOCdevkit')

    file = 'trainvaltest' if 'test' in counts else 'trainval'
    return DataSet(
        f'voc{year}',
        f'PASCAL VOC {year}',
        'data/VOCdevkit',
        partial(readers.read_voc, year=year, splits=tuple(counts)),
        counts,
        (ImageList(f'VOC{year}/Lists/{file}.txt', tuple(counts), f'VOC{year}/JPEGImages'),),
        has_classes=False,
        downloads=tuple(map(archive, counts)),
    )


def _cifar(name: str, dataset: type, size: str) -> DataSet:
    provides = (dataset.base_folder, 'meta/test.txt')  # The list is written last.
    return DataSet(
        name,
        name.upper().replace('CIFAR', 'CIFAR-'),
        f'data/{name}',
        partial(readers.read_cifar, name=name),
        dict(train=50_000, test=10_000),
        **_lists(train='train', test='test'),
        downloads=(Download(dataset.filename, dataset.url, provides, dataset.tgz_md5, size),),
        note='The images are written as PNG files: train/CLASS/00000.png.',
    )


def _seed(seed: int | None) -> dict[str, int]:
    return {} if seed is None else dict(seed=seed)


def data_sets(seed: int | None = None, subset_list: Path | None = None) -> dict[str, DataSet]:
    """The data sets by name.

    Args:
        seed (int | None): Seed of random subsets and splits. Default: None, which is 0 for new
            lists and accepts existing ones of any seed.
        subset_list (Path | None): List of the images of an ImageNet subset. Default: None, drawn
            at random.
    """
    # fmt: off
    table = (
        DataSet(
            'imagenet', 'ImageNet (ILSVRC 2012)', 'data/imagenet', folders.read_imagenet,
            dict(train=1_281_167, val=50_000), **_lists(train='train', val='val'),
            downloads=(
                _imagenet('train', '148 GB', ('train',), target='train', nested=True),
                _imagenet('val', '6.7 GB', ('val',), target='val'),
                _imagenet('devkit', '2.6 MB', folders.VAL_LABELS),
            ),
            note='The page requires an account. The development kit holds the labels of the '
            f"validation images; Kaggle's {folders.KAGGLE_LABELS}, class folders in val or a list "
            'meta/val.txt also do.',
        ),
        _imagenet_subset(1, subset_list, seed),
        _imagenet_subset(10, subset_list, seed),
        DataSet(
            'places205', 'Places205', 'data/places205', readers.read_places205,
            dict(train=2_448_873, val=20_500), **_lists(train=PLACES_IMAGES, val=PLACES_IMAGES),
            downloads=(
                Download('imagesPlaces205_resize.tar.gz', PLACES, (PLACES_IMAGES,)),
                Download(f'{PLACES_LISTS}.tar.gz', f'{PLACES_FILES}/{PLACES_LISTS}.tar.gz',
                         (PLACES_LISTS,)),
            ),
            note='Images of 256 x 256 pixels. The page asks for an e-mail address. The files have '
            'no published checksums and are served without TLS, so --download does not fetch them.',
        ),
        _voc(2007, dict(trainval='460 MB', test='451 MB'), dict(trainval=5011, test=4952)),
        _voc(2012, dict(trainval='2.0 GB'), dict(trainval=11_540)),
        _cifar('cifar10', datasets.CIFAR10, '170 MB'),
        _cifar('cifar100', datasets.CIFAR100, '169 MB'),
        DataSet(
            'cars', 'Stanford Cars', 'data/cars', readers.read_cars, dict(train=8144, test=8041),
            downloads=tuple(Download(*file) for file in (
                ('cars_train.tgz', CARS, ('cars_train',), '065e5b463ae28d29e77c1b4b166cfe61'),
                ('cars_test.tgz', CARS, ('cars_test',), '4ce7ebf6a94d07f1952d94dd34c4d501'),
                ('car_devkit.tgz', CARS_KIT, ('devkit',), 'c3b158d763b6e2245038c8ad08e45376'),
                ('cars_test_annos_withlabels.mat', f'{CARS_KIT}#issuecomment-1631441616', (),
                 'b0a2b23655a3edd16d84508592a98d10'),
            )),
            note='The official site is offline; these pages link to copies. The folders '
            'cars_train, cars_test and devkit replace their archives. In the copy on Kaggle the '
            'images are one folder deeper, in cars_train/cars_train: move the inner folder up.',
        ),
        DataSet(
            'caltech101', 'Caltech-101', 'data/caltech101',
            partial(readers.read_caltech101, seed=seed or 0), dict(train=3030, test=5647),
            downloads=(
                Download(
                    'caltech-101.zip', CALTECH, (CALTECH_IMAGES, f'{CALTECH_IMAGES}.tar.gz'),
                    '3138e1922a9193bfa496528edbbc45d0', '137 MB', strip='caltech-101',
                ),
                Download(f'{CALTECH_IMAGES}.tar.gz', CALTECH, (CALTECH_IMAGES,)),
            ),
            note='8,677 images in 101 classes: 30 of each class to train, the others to test.',
            selection_file='meta/split.json', requested=_seed(seed),
        ),
        DataSet(
            'pets', 'Oxford-IIIT Pet', 'data/pets', readers.read_pets, dict(train=3680, test=3669),
            downloads=tuple(
                Download(f'{name}.tar.gz', f'{PETS}/{name}.tar.gz', (name,), md5, size)
                for name, md5, size in (
                    ('images', '5c4f3ee8e5d25df40f4fd59a7f44e54c', '792 MB'),
                    ('annotations', '95a8c909bbe2e81eed6a22bccdf3f68f', '19 MB'),
                )
            ),
        ),
        DataSet(
            'flowers', 'Oxford Flowers 102', 'data/flowers', readers.read_flowers,
            dict(train=2040, test=6149),
            downloads=tuple(Download(file, f'{FLOWERS}/{file}', *rest) for file, *rest in (
                ('102flowers.tgz', ('jpg',), '52808999861908f626f3c1f4e79d11fa', '345 MB'),
                ('imagelabels.mat', (), 'e0620be6f572b9609742df49c70aed4d'),
                ('setid.mat', (), 'a5357ecc9cb78c4bef273ce3793fc85c'),
            )),
        ),
        DataSet(
            'custom', 'Custom images', 'data/custom', partial(folders.read_custom, seed=seed or 0),
            note='Put the images into train/CLASS and test/CLASS; or into train/CLASS or CLASS '
            'alone, and a fifth is drawn for the test split.',
            selection_file='meta/split.json', requested=_seed(seed),
        ),
    )
    # fmt: on
    return {data_set.name: data_set for data_set in table}
