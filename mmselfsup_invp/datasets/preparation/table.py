"""All data sets of the evaluation."""

from functools import partial
from pathlib import Path

from ..converters import convert_torchvision
from .data_set import DataSet, Download, ImageList
from .single_label import (
    DEVKIT,
    KAGGLE_TRUTH,
    read_caltech101,
    read_cars,
    read_custom,
    read_flowers,
    read_imagenet,
    read_listed,
    read_pets,
    read_places205,
)
from .subsets import SIMCLR_LISTS, read_subset
from .voc import read_voc

IMAGENET_PAGE = 'https://image-net.org/challenges/LSVRC/2012/2012-downloads.php'
PLACES_PAGE = 'http://places.csail.mit.edu/downloadData.html'
PLACES_IMAGES = 'data/vision/torralba/deeplearning/images256'
CARS_PAGE = 'https://www.kaggle.com/datasets/jessicali9530/stanford-cars-dataset'
CARS_ISSUE = 'https://github.com/pytorch/vision/issues/7545'
FLOWERS = 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/'
PETS = 'https://www.robots.ox.ac.uk/~vgg/data/pets/data/'
VOC = 'http://host.robots.ox.ac.uk/pascal/VOC/'


def _lists(prefixes: dict[str, str]) -> tuple[ImageList, ...]:
    """``meta/SPLIT.txt`` for each split, and what its paths are relative to."""
    return tuple(
        ImageList(f'meta/{split}.txt', (split,), prefix) for split, prefix in prefixes.items()
    )


def _imagenet() -> DataSet:
    return DataSet(
        'imagenet',
        'ImageNet (ILSVRC 2012)',
        'data/imagenet',
        read_imagenet,
        counts=dict(train=1_281_167, val=50_000),
        lists=_lists(dict(train='train', val='val')),
        downloads=(
            Download(
                'ILSVRC2012_img_train.tar',
                IMAGENET_PAGE,
                holds=('train',),
                into='train',
                direct=False,
                md5='1d675b47d978889d74fa0da5fadfb00e',
                size='148 GB',
            ),
            Download(
                'ILSVRC2012_img_val.tar',
                IMAGENET_PAGE,
                holds=('val',),
                into='val',
                direct=False,
                md5='29b22e2961454d5413ddabcf34fc5622',
                size='6.7 GB',
            ),
            # Read where it lies, for the labels of a flat val.
            Download(
                DEVKIT,
                IMAGENET_PAGE,
                holds=(DEVKIT, KAGGLE_TRUTH, 'meta/val.txt', 'val/n[0-9]*'),
                direct=False,
                md5='fa75699e90414af021442c21a62c3abf',
                size='2.6 MB',
            ),
        ),
        note=(
            'The page asks for an account. The last of these tells the labels of the validation '
            f'images; {KAGGLE_TRUTH} of Kaggle, class folders in val or a list meta/val.txt do '
            'as well.'
        ),
    )


def _imagenet_subset(percent: int, subset_list: Path | None, seed: int | None) -> DataSet:
    """A list that is there has to agree with what was asked for, and with nothing else."""
    asked = {} if seed is None else dict(seed=seed)
    if subset_list is not None:
        asked = dict(source=subset_list.name)
    return DataSet(
        f'imagenet-{percent}percent',
        f'{percent} % of ImageNet',
        'data/imagenet',
        partial(read_subset, percent=percent, subset_list=subset_list, seed=seed or 0),
        lists=(ImageList(f'meta/train_{percent}percent.txt', ('train',), 'train'),),
        has_classes=False,
        note=(
            f'SimCLR published its list at {SIMCLR_LISTS}{percent}percent.txt; name it by '
            '--subset-list. Otherwise images are drawn at random.'
        ),
        facts_file=f'meta/train_{percent}percent.json',
        asked=asked,
    )


def _places205() -> DataSet:
    return DataSet(
        'places205',
        'Places205',
        'data/places205',
        read_places205,
        counts=dict(train=2_448_873, val=20_500),
        lists=_lists(dict(train=PLACES_IMAGES, val=PLACES_IMAGES)),
        downloads=(
            Download(
                'imagesPlaces205_resize.tar.gz', PLACES_PAGE, holds=(PLACES_IMAGES,), direct=False
            ),
            Download(
                'trainvalsplit_places205.tar.gz',
                'http://data.csail.mit.edu/places/places205/trainvalsplit_places205.tar.gz',
                holds=('trainvalsplit_places205',),
            ),
        ),
        note='Images of 256 x 256 pixels. The page asks for an e-mail address.',
    )


def _voc2007() -> DataSet:
    return DataSet(
        'voc2007',
        'PASCAL VOC 2007',
        'data/VOCdevkit',
        partial(read_voc, year=2007, splits=('trainval', 'test')),
        counts=dict(trainval=5011, test=4952),
        lists=(
            ImageList('VOC2007/Lists/trainvaltest.txt', ('trainval', 'test'), 'VOC2007/JPEGImages'),
        ),
        has_classes=False,
        downloads=(
            Download(
                'VOCtrainval_06-Nov-2007.tar',
                f'{VOC}voc2007/VOCtrainval_06-Nov-2007.tar',
                holds=('VOC2007/ImageSets/Main/trainval.txt',),
                strip='VOCdevkit',
                md5='c52e279531787c972589f7e41ab4ae64',
                size='460 MB',
            ),
            Download(
                'VOCtest_06-Nov-2007.tar',
                f'{VOC}voc2007/VOCtest_06-Nov-2007.tar',
                holds=('VOC2007/ImageSets/Main/test.txt',),
                strip='VOCdevkit',
                md5='b6e924de25625d8de591ea690078ad9f',
                size='451 MB',
            ),
        ),
    )


def _voc2012() -> DataSet:
    return DataSet(
        'voc2012',
        'PASCAL VOC 2012',
        'data/VOCdevkit',
        partial(read_voc, year=2012, splits=('trainval',)),
        counts=dict(trainval=11_540),
        lists=(ImageList('VOC2012/Lists/trainval.txt', ('trainval',), 'VOC2012/JPEGImages'),),
        has_classes=False,
        downloads=(
            Download(
                'VOCtrainval_11-May-2012.tar',
                f'{VOC}voc2012/VOCtrainval_11-May-2012.tar',
                holds=('VOC2012/ImageSets/Main/trainval.txt',),
                strip='VOCdevkit',
                md5='6cd6e144f989b92b3379bac3b3de84fd',
                size='2.0 GB',
            ),
        ),
        note='Annotations of its test images are not public.',
    )


def _cifar(classes: int, folder: str, md5: str, size: str) -> DataSet:
    name = f'cifar{classes}'
    file = f'cifar-{classes}-python.tar.gz'
    return DataSet(
        name,
        f'CIFAR-{classes}',
        f'data/{name}',
        read_listed,
        counts=dict(train=50_000, test=10_000),
        lists=_lists(dict(train='train', test='test')),
        downloads=(
            Download(
                file,
                f'https://www.cs.toronto.edu/~kriz/{file}',
                holds=(folder, 'meta/test.txt'),  # The list is written last.
                md5=md5,
                size=size,
            ),
        ),
        note='The images are written as PNG files: train/CLASS/00000.png.',
        convert=lambda root: convert_torchvision(name, root, root),
    )


def _cars() -> DataSet:
    return DataSet(
        'cars',
        'Stanford Cars',
        'data/cars',
        read_cars,
        counts=dict(train=8144, test=8041),
        downloads=(
            Download(
                'cars_train.tgz',
                CARS_PAGE,
                holds=('cars_train',),
                direct=False,
                md5='065e5b463ae28d29e77c1b4b166cfe61',
            ),
            Download(
                'cars_test.tgz',
                CARS_PAGE,
                holds=('cars_test',),
                direct=False,
                md5='4ce7ebf6a94d07f1952d94dd34c4d501',
            ),
            Download(
                'car_devkit.tgz',
                CARS_ISSUE,
                holds=('devkit',),
                direct=False,
                md5='c3b158d763b6e2245038c8ad08e45376',
            ),
            Download(
                'cars_test_annos_withlabels.mat',
                f'{CARS_ISSUE}#issuecomment-1631441616',
                direct=False,
                md5='b0a2b23655a3edd16d84508592a98d10',
            ),
        ),
        note=(
            'The official addresses (https://ai.stanford.edu/~jkrause/cars/car_dataset.html) are '
            'gone; these pages lead to copies. A folder will do in place of its archive: '
            'cars_train, cars_test, devkit. In the copy on Kaggle the images lie one folder '
            'deeper, in cars_train/cars_train: move the inner folder up.'
        ),
    )


def _caltech101(seed: int | None) -> DataSet:
    page = 'https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip'
    images = '101_ObjectCategories'
    return DataSet(
        'caltech101',
        'Caltech-101',
        'data/caltech101',
        partial(read_caltech101, seed=seed or 0),
        counts=dict(train=3030, test=5647),
        downloads=(
            Download(
                'caltech-101.zip',
                page,
                holds=(images, f'{images}.tar.gz'),
                strip='caltech-101',
                md5='3138e1922a9193bfa496528edbbc45d0',
                size='137 MB',
            ),
            # Lies in the other one.
            Download(f'{images}.tar.gz', page, holds=(images,), direct=False),
        ),
        note='8,677 images in 101 classes: 30 of each to train, the others to test.',
        facts_file='meta/split.json',
        asked={} if seed is None else dict(seed=seed),
    )


def _pets() -> DataSet:
    return DataSet(
        'pets',
        'Oxford-IIIT Pet',
        'data/pets',
        read_pets,
        counts=dict(train=3680, test=3669),
        downloads=(
            Download(
                'images.tar.gz',
                f'{PETS}images.tar.gz',
                holds=('images',),
                md5='5c4f3ee8e5d25df40f4fd59a7f44e54c',
                size='792 MB',
            ),
            Download(
                'annotations.tar.gz',
                f'{PETS}annotations.tar.gz',
                holds=('annotations',),
                md5='95a8c909bbe2e81eed6a22bccdf3f68f',
                size='19 MB',
            ),
        ),
    )


def _flowers() -> DataSet:
    return DataSet(
        'flowers',
        'Oxford Flowers 102',
        'data/flowers',
        read_flowers,
        counts=dict(train=2040, test=6149),
        downloads=(
            Download(
                '102flowers.tgz',
                f'{FLOWERS}102flowers.tgz',
                holds=('jpg',),
                md5='52808999861908f626f3c1f4e79d11fa',
                size='345 MB',
            ),
            Download(
                'imagelabels.mat',
                f'{FLOWERS}imagelabels.mat',
                md5='e0620be6f572b9609742df49c70aed4d',
            ),
            Download('setid.mat', f'{FLOWERS}setid.mat', md5='a5357ecc9cb78c4bef273ce3793fc85c'),
        ),
    )


def _custom(seed: int | None) -> DataSet:
    return DataSet(
        'custom',
        'Own images',
        'data/custom',
        partial(read_custom, seed=seed or 0),
        note=(
            'Images lie in train/CLASS and test/CLASS, or in train/CLASS or CLASS alone, of which '
            'a fifth is drawn for the test.'
        ),
        facts_file='meta/split.json',
        asked={} if seed is None else dict(seed=seed),
    )


def data_sets(seed: int | None = None, subset_list: Path | None = None) -> dict[str, DataSet]:
    """The data sets by name.

    Args:
        seed (int | None): Seed of all that is drawn: the subsets of ImageNet and the splits of
            Caltech-101 and of own images. Default: None, which is 0, or whatever lists that are
            there were drawn with.
        subset_list (Path | None): List of the images of a subset of ImageNet. Default: None, they
            are drawn.

    Returns:
        dict[str, DataSet]: All of them.

    Example:
        >>> data_sets()['pets'].counts
        {'train': 3680, 'test': 3669}
    """
    table = (
        _imagenet(),
        _imagenet_subset(1, subset_list, seed),
        _imagenet_subset(10, subset_list, seed),
        _places205(),
        _voc2007(),
        _voc2012(),
        _cifar(10, 'cifar-10-batches-py', 'c58f30108f718f92721af3b95e74349a', '170 MB'),
        _cifar(100, 'cifar-100-python', 'eb9058c3a382ffc7106e4002c42a8d85', '169 MB'),
        _cars(),
        _caltech101(seed),
        _pets(),
        _flowers(),
        _custom(seed),
    )
    return {data_set.name: data_set for data_set in table}
