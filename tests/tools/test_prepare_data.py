import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

import prepare_data
from mmselfsup_invp.cli import prepare
from mmselfsup_invp.datasets.preparation import data_sets

from .. import layouts

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'prepare_data.py'


def test_the_names_are_those_of_the_data_sets():
    assert list(data_sets()) == list(prepare_data.NAMES)


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """Run the tool in an empty folder, without expected counts; returns exit code and output."""

    def tiny(*arguments):
        table = data_sets(*arguments)
        return {name: dataclasses.replace(item, counts={}) for name, item in table.items()}

    monkeypatch.setattr(prepare, 'data_sets', tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COLUMNS', '100')

    def call(*words):
        capsys.readouterr()
        monkeypatch.setattr(sys, 'argv', ['prepare_data.py', *map(str, words)])
        try:
            prepare_data.main()
        except SystemExit as end:
            return end.code, ''.join(capsys.readouterr())
        return 0, capsys.readouterr().out

    return call


def test_prepare_check_and_again(tool):
    layouts.pets(Path('data/pets'))
    code, output = tool('pets')
    assert code == 0 and 'pets in data/pets: 4 train, 4 test images prepared.' in output
    code, output = tool('pets')
    assert code == 0 and 'pets is complete: data/pets/meta/classes.txt, data/pets/' in output
    code, output = tool('pets', '--check')
    assert code == 0 and '4 meta/train.txt, 4 meta/test.txt images present and readable.' in output
    Path('data/pets/images/Abyssinian_1.jpg').write_bytes(b'')
    code, output = tool('pets', '--check')
    assert 'data/pets/images/Abyssinian_1.jpg (no image)' in output
    code, output = tool('pets', '--check', '--quick')
    assert code == 0 and 'images present.' in output


def test_root_and_seed(tool, tmp_path):
    layouts.custom(tmp_path / 'mine')
    code, output = tool('custom', '--root', 'mine', '--seed', '7')
    assert code == 0 and 'custom in mine: 8 train, 2 test images' in output
    assert 'split = random, test_percent = 20, seed = 7' in output
    code, output = tool('custom', '--root', 'mine', '--seed', '8')
    assert "drawn with {'seed': 7}, not with {'seed': 8}" in output


def test_ignored_images_are_printed(tool, tmp_path):
    layouts.custom(tmp_path / 'mine', splits=True)
    layouts.write_image(tmp_path / 'mine' / 'train' / '0.png', 0, 0)
    code, output = tool('custom', '--root', 'mine')
    assert code == 0 and 'custom in mine: 10 train, 10 test images' in output
    assert 'selection: split = folders, ignored = 1 (1 in train)' in output


def test_subset_list(tool, tmp_path):
    layouts.imagenet(tmp_path / 'data' / 'imagenet')
    Path('1percent.txt').write_text('n01440764_1.JPEG\n')
    assert tool('imagenet', '--quick')[0] == 0
    code, output = tool('imagenet-1percent', '--subset-list', '1percent.txt')
    assert code == 0 and 'source = 1percent.txt, seed = None, count = 1' in output
    code, output = tool('imagenet-10percent')
    assert code == 0 and 'source = random, seed = 0, count = 2' in output


def test_list(tool):
    layouts.custom(Path('data/custom'))
    layouts.flowers(Path('data/flowers'))
    layouts.cifar(Path('data/cifar10'))
    code, output = tool('--list')
    states = {
        line.split()[0]: line.rstrip().split('  ')[-1].strip() for line in output.splitlines()
    }
    assert code == 0 and states.keys() - {'name'} == data_sets().keys()
    assert states['cifar10'] == 'complete'
    assert states['flowers'] == states['custom'] == 'not prepared'
    assert states['imagenet'] == states['imagenet-1percent'] == states['voc2007'] == 'missing'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], 'name one of imagenet, '),
        (['mnist'], "invalid choice: 'mnist'"),
        (['pets', '--subset-list', 'x'], 'requires imagenet-1percent'),
    ],
)
def test_invalid_arguments(tool, words, message):
    code, output = tool(*words)
    assert code == 2 and message in output


def test_missing_downloads_end_in_a_message(tmp_path):
    """Started from a shell, with the real table."""
    done = subprocess.run(
        [sys.executable, SCRIPT, 'voc2007'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert 'Traceback' not in done.stderr
    assert 'PASCAL VOC 2007 is not in data/VOCdevkit. Download\n' in done.stderr
    assert 'http://host.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtest_06-Nov-2007.tar' in done.stderr
    assert '  python tools/prepare_data.py voc2007\n' in done.stderr
