import hashlib
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

import convert_dataset
from mmselfsup_invp.datasets import converters
from mmselfsup_invp.datasets.converters import (
    claim_folder,
    convert_digits,
    convert_torchvision,
    write_split,
)

from .. import toy


def listed(root, split):
    """The lines of a list: path and label."""
    lines = (root / 'meta' / f'{split}.txt').read_text().splitlines()
    return [(path, int(label)) for path, label in (line.split(' ') for line in lines)]


def pixels_of(root, split):
    return [np.asarray(Image.open(root / split / path)) for path, _ in listed(root, split)]


class TestDigits:
    @pytest.fixture(scope='class')
    def digits(self, tmp_path_factory):
        root = tmp_path_factory.mktemp('digits') / 'deep' / 'digits'
        assert convert_digits(root) == dict(train=1438, test=359)
        return root

    def test_images_and_labels_are_those_of_scikit_learn(self, digits):
        source = load_digits()
        for split, chosen in (
            ('train', [i for i in range(1797) if i % 5 != 4]),
            ('test', range(4, 1797, 5)),
        ):
            pixels = np.stack(pixels_of(digits, split))
            assert pixels.dtype == np.uint8 and pixels.shape == (len(chosen), 8, 8)
            # 17 grey levels, spread over the whole range.
            assert np.array_equal(np.round(pixels * (16 / 255)), source.images[chosen])
            assert [label for _, label in listed(digits, split)] == list(source.target[chosen])
            assert all(path.startswith(f'{label}/') for path, label in listed(digits, split))
        assert pixels.min() == 0 and pixels.max() == 255

    def test_mmcls_reads_them(self, digits):
        config = toy.loader(digits)['dataset']
        dataset = toy.build_dataset({**config, 'type': 'mmcls.CustomDataset'})
        assert len(dataset) == 1438
        item = dataset[1000]
        assert item['inputs'][0].shape == (3, 8, 8)
        path, label = listed(digits, 'train')[1000]
        assert dataset.get_data_info(1000)['gt_label'] == label
        assert item['data_samples'].img_path.endswith(f'train/{path}')

    def test_a_complete_split_is_kept(self, digits):
        files = digits / 'test' / listed(digits, 'test')[0][0], digits / 'meta' / 'test.txt'
        before = [path.stat().st_mtime_ns for path in files]
        assert convert_digits(digits) == {}
        assert before == [path.stat().st_mtime_ns for path in files]


class TestOtherData:
    """A folder with other data is not changed."""

    @pytest.mark.parametrize('convert', [convert_digits, partial(convert_torchvision, 'svhn', '')])
    @pytest.mark.parametrize('path', ['train/cat/1.png', 'test/cat/1.png', 'meta/train.txt'])
    def test_own_images(self, tmp_path, convert, path):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text('mine')
        message = f'holds other data .{path.split("/")[0]}; .*Choose an empty folder'
        with pytest.raises(ValueError, match=message):
            convert(tmp_path)
        assert [file for file in tmp_path.rglob('*') if file.is_file()] == [tmp_path / path]

    def test_another_conversion(self, tmp_path):
        claim_folder(tmp_path, 'digits')
        with pytest.raises(ValueError, match=r'source.json says digits, not cifar10\)'):
            convert_torchvision('cifar10', tmp_path, tmp_path)

    def test_the_tool_offers_every_conversion(self):
        assert ('digits', *converters.READERS) == convert_dataset.NAMES

    def test_the_tool_ends_with_the_message(self, tmp_path):
        (tmp_path / 'train').mkdir()
        tool = Path(__file__).resolve().parents[2] / 'tools' / 'convert_dataset.py'
        command = [sys.executable, str(tool), 'digits', str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and 'Traceback' not in done.stderr
        assert f'{tmp_path} holds other data' in done.stderr


class Interrupted(list):
    """Samples that end in a keyboard interrupt."""

    def __iter__(self):
        yield from super().__iter__()
        raise KeyboardInterrupt


class TestInterruptedConversion:
    def test_an_interrupted_split_is_written_again(self, tmp_path, monkeypatch):
        write = converters.write_split

        def cut(root, split, samples, classes):
            return write(root, split, Interrupted(samples[:30]), classes)

        monkeypatch.setattr(converters, 'write_split', cut)
        with pytest.raises(KeyboardInterrupt):
            convert_digits(tmp_path)
        assert len(list((tmp_path / 'train').rglob('*.png'))) == 30
        assert not converters.has_split(tmp_path, 'train')
        monkeypatch.undo()
        assert convert_digits(tmp_path) == dict(train=1438, test=359)
        assert len(list((tmp_path / 'train').rglob('*.png'))) == len(listed(tmp_path, 'train'))

    def test_the_list_is_written_atomically(self, tmp_path, monkeypatch):
        def full_disk(*_):
            raise OSError('No space left on device')

        monkeypatch.setattr(os, 'replace', full_disk)
        samples = [(Image.new('L', (2, 2)), 0)]
        with pytest.raises(OSError, match='No space'):
            write_split(tmp_path, 'train', samples, ['a'])
        assert not converters.has_split(tmp_path, 'train')
        monkeypatch.undo()
        assert write_split(tmp_path, 'train', samples, ['a']) == 1
        assert [path.name for path in (tmp_path / 'meta').iterdir()] == ['train.txt']

    def test_samples_without_a_length(self, tmp_path):
        samples = ((Image.new('L', (2, 2), 10 * i), i % 2) for i in range(5))
        assert write_split(tmp_path, 'train', samples, ['a', 'b']) == 5
        assert listed(tmp_path, 'train')[3:] == [('b/00003.png', 1), ('a/00004.png', 0)]


def cifar_archive(root, monkeypatch, dataset=datasets.CIFAR10):
    """Unpack a CIFAR archive of 3 images a batch and register its checksums with torchvision."""
    random = np.random.default_rng(0)
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    ten = dataset is datasets.CIFAR10
    content = {}

    def write(name, value):
        (folder / name).write_bytes(pickle.dumps(value))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name, count=3):
        data = random.integers(0, 256, (count, 3072)).astype(np.uint8)
        labels = random.integers(0, 10, count).tolist()
        content[name] = data, labels
        return write(name, {'data': data, 'labels' if ten else 'fine_labels': labels})

    names = [f'data_batch_{i}' for i in range(1, 6)] if ten else ['train']
    monkeypatch.setattr(dataset, 'train_list', [batch(name) for name in names])
    monkeypatch.setattr(dataset, 'test_list', [batch('test_batch' if ten else 'test')])
    key = dataset.meta['key']
    meta = write(dataset.meta['filename'], {key: [f'class{i}' for i in range(10)]})
    monkeypatch.setattr(dataset, 'meta', {**dataset.meta, 'md5': meta[1]})
    return content


class TestTorchvision:
    @pytest.mark.parametrize(
        ('name', 'dataset'), [('cifar10', datasets.CIFAR10), ('cifar100', datasets.CIFAR100)]
    )
    def test_cifar(self, tmp_path, monkeypatch, name, dataset):
        content = cifar_archive(tmp_path / 'source', monkeypatch, dataset)
        root = tmp_path / 'cifar'
        test = content.pop('test_batch' if name == 'cifar10' else 'test')
        expected = dict(train=list(content.values()), test=[test])
        count = {split: 3 * len(batches) for split, batches in expected.items()}
        assert convert_torchvision(name, tmp_path / 'source', root) == count
        for split, batches in expected.items():
            data = np.concatenate([data for data, _ in batches])
            data = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # RGB planes.
            assert np.array_equal(np.stack(pixels_of(root, split)), data)
            labels = sum((labels for _, labels in batches), [])
            assert [label for _, label in listed(root, split)] == labels
            assert [path.split('/')[0] for path, _ in listed(root, split)] == [
                f'class{label}' for label in labels
            ]

    def test_complete_splits_need_no_archive(self, tmp_path, monkeypatch):
        cifar_archive(tmp_path / 'source', monkeypatch)
        convert_torchvision('cifar10', tmp_path / 'source', tmp_path / 'cifar')
        assert convert_torchvision('cifar10', tmp_path / 'nothing', tmp_path / 'cifar') == {}
        (tmp_path / 'cifar' / 'meta' / 'test.txt').unlink()
        again = convert_torchvision('cifar10', tmp_path / 'source', tmp_path / 'cifar')
        assert again == dict(test=3)

    def test_svhn(self, tmp_path, monkeypatch):
        source = tmp_path / 'source'
        source.mkdir()
        random, listing, content = np.random.default_rng(0), {}, {}
        for split in ('train', 'test'):
            file = f'{split}_32x32.mat'
            data = random.integers(0, 256, (32, 32, 3, 4)).astype(np.uint8)
            scipy.io.savemat(source / file, dict(X=data, y=np.array([[10], [1], [9], [2]])))
            digest = hashlib.md5((source / file).read_bytes()).hexdigest()
            listing[split] = [f'http://svhn/{file}', file, digest]
            content[split] = data.transpose(3, 0, 1, 2)
        monkeypatch.setattr(datasets.SVHN, 'split_list', listing)
        root = tmp_path / 'svhn'
        assert convert_torchvision('svhn', source, root) == dict(train=4, test=4)
        for split, data in content.items():
            assert np.array_equal(np.stack(pixels_of(root, split)), data)
            # The label of 0 is 10 in the file.
            assert [label for _, label in listed(root, split)] == [0, 1, 9, 2]

    @pytest.mark.parametrize(
        ('name', 'address'),
        [('cifar10', 'https://.*cifar-10-python.tar.gz'), ('svhn', 'http.*train_32x32.mat')],
    )
    def test_a_failed_download(self, tmp_path, monkeypatch, name, address):
        def offline(*_, **__):
            raise URLError('no route to host')

        monkeypatch.setattr('urllib.request.urlopen', offline)
        source = tmp_path / 'source'
        with pytest.raises(FileNotFoundError, match='no route to host') as raised:
            convert_torchvision(name, source, tmp_path / 'data')
        dataset = dict(cifar10='CIFAR10', svhn='SVHN')[name]
        assert raised.match(
            f'{dataset} is not in {source} and the download failed .*Download {address} .*put it'
        )
        assert not (tmp_path / 'data').exists()

    def test_an_unknown_name_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="name = 'mnist' is unknown; valid: cifar10, cifar100"):
            convert_torchvision('mnist', tmp_path, tmp_path)
