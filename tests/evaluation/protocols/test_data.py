import re

import pytest

from mmselfsup_invp.evaluation.protocols.data import check_data, move_data

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
