import re

import pytest
from mmengine.config import Config

from mmselfsup_invp.evaluation.protocols import data
from mmselfsup_invp.evaluation.protocols.data import check_data, lists_digest, move_data

from .jobs import training


def missing(root, name, folder):
    """The message where a folder holds nothing."""
    config = training(root)
    move_data(config, str(folder))
    with pytest.raises(FileNotFoundError) as raised:
        check_data(config, name)
    return str(raised.value)


def test_missing_data_are_named(root, tmp_path):
    check_data(training(root), 'toy')
    message = missing(root, 'toy', tmp_path)
    assert message.startswith(f'toy: not complete, {tmp_path / "meta/train.txt"}, ')
    assert 'docs/en/data.md describes' in message


@pytest.mark.parametrize(
    ('name', 'folder', 'advice'),
    [
        ('digits', 'data/digits/', 'run `python tools/convert_dataset.py digits data/digits`'),
        ('pets', 'data/pets/', 'run `python tools/prepare_data.py pets`'),
        ('pets', 'cats', 'run `python tools/prepare_data.py pets --root cats`'),
        ('voc2007', 'data/VOCdevkit/VOC2007', 'run `python tools/prepare_data.py voc2007`'),
        (['voc2007', 'voc2012'], 'data/VOCdevkit', 'voc2007`, .*; run .*prepare_data.py voc2012`'),
        ('bccd', 'data/bccd', 'configs/benchmarks/mmdetection/README.md says where'),
        ('custom-voc', 'mine', 'configs/benchmarks/mmdetection/README.md describes'),
    ],
)
def test_the_advice_is_the_right_command(root, name, folder, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(advice, missing(root, name, folder))


LAYOUTS = {
    'classification': (
        dict(ann_file='meta/train.txt', data_prefix=dict(img_path='images')),
        ('a b.jpg 0', 'c/d.png 1'),
        ('images/a b.jpg', 'images/c/d.png'),
    ),
    'no labels': (
        dict(ann_file='train.txt', data_prefix='images'),
        ('a b.jpg', 'c.png'),
        ('images/a b.jpg', 'images/c.png'),
    ),
    'VOC of mmcls': (
        dict(image_set_path='sets/train.txt', data_prefix=dict(img_path='JPEGImages')),
        ('2007.1', '000002  1', '000003 -1'),
        ('JPEGImages/2007.1.jpg', 'JPEGImages/000002.jpg', 'JPEGImages/000003.jpg'),
    ),
    'VOC of mmdet': (
        dict(ann_file='VOC2007/train.txt', data_prefix=dict(sub_data_root='VOC2007/')),
        ('000001', '000002'),
        ('VOC2007/JPEGImages/000001.jpg', 'VOC2007/JPEGImages/000002.jpg'),
    ),
    'own VOC of mmdet': (
        dict(ann_file='train.txt', data_prefix=dict(sub_data_root='')),
        ('000001',),
        ('JPEGImages/000001.jpg',),
    ),
    'no prefix': (dict(ann_file='train.txt'), ('a.jpg 0',), ('a.jpg',)),
}


def listed(root, dataset, lines, images):
    """A config that reads a list, and paths of its images, which are written."""
    files = [root / name for name in images]
    (name,) = (dataset[key] for key in data.LISTS if key in dataset)
    for file in [root / name, *files]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('image')
    (root / name).write_text(''.join(f'{line}\n' for line in lines))
    dataset = dict(dataset, type='any', data_root=str(root))
    return Config(dict(train_dataloader=dict(dataset=dict(dataset=dataset)))), files


@pytest.mark.parametrize('layout', LAYOUTS.values(), ids=LAYOUTS)
def test_the_hash_covers_the_sizes_of_the_images(tmp_path, layout):
    config, files = listed(tmp_path, *layout)
    found = [lists_digest(config)]
    for file in files:
        file.write_text('another')
        found.append(lists_digest(config))
    assert len({*found}) == len(files) + 1
    files[0].unlink()
    assert lists_digest(config) not in found


def test_some_images_of_a_long_list(tmp_path, monkeypatch):
    """Those at the places 0, 2 and 4 of 7."""
    monkeypatch.setattr(data, 'MAX_SIZES', 3)
    names = [f'{number}.jpg' for number in range(7)]
    config, files = listed(tmp_path, dict(ann_file='train.txt'), names, names)
    before = lists_digest(config)
    seen = []
    for number, file in enumerate(files):
        file.write_text('another')
        seen += [number] * (lists_digest(config) != before)
        before = lists_digest(config)
    assert seen == [0, 2, 4]


def test_a_list_in_json_or_of_missing_images(tmp_path):
    config, _ = listed(tmp_path, dict(ann_file='train.json'), ['{"images": []}'], [])
    before = lists_digest(config)
    (tmp_path / 'train.json').write_text('{}')
    assert lists_digest(config) != before
    config, _ = listed(tmp_path, dict(ann_file='train.txt'), ['a\0b.jpg 1', ''], [])
    assert lists_digest(config)
