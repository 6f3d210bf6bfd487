"""Lists of 1 % and 10 % of ImageNet."""

import json

import pytest

from mmselfsup_invp.datasets.preparation import prepare

from .. import layouts
from .lists import lines, tiny


class TestSubsets:
    @pytest.fixture
    def root(self, tmp_path):
        """ImageNet of classes of 21 and 5 images."""
        root = layouts.imagenet(tmp_path / 'imagenet', classes=2, per_class=21)
        for path in sorted((root / 'train' / layouts.WNIDS[1]).iterdir())[5:]:
            path.unlink()
        prepare(tiny('imagenet', train=26, val=42), root)
        return root

    def test_at_random(self, root):
        data_set = tiny('imagenet-10percent')
        assert prepare(data_set, root) == dict(train=4)
        drawn = lines(root, 'meta/train_10percent.txt')
        # ceil(2.1) and ceil(0.5) lines, in the order of the whole list.
        assert [line.split()[1] for line in drawn] == ['0', '0', '0', '1']
        assert [line for line in lines(root) if line in drawn] == drawn
        note = json.loads((root / 'meta' / 'train_10percent.json').read_text())
        assert note == dict(source='random', seed=0, count=4)
        assert prepare(data_set, root) is None
        assert prepare(tiny('imagenet-1percent'), root) == dict(train=2)

    def test_by_seed(self, root):
        drawn = set()
        for seed in (0, 0, 1, 2):
            prepare(tiny('imagenet-10percent', seed=seed), root)
            drawn.add((root / 'meta' / 'train_10percent.txt').read_text())
            (root / 'meta' / 'train_10percent.txt').unlink()
        assert len(drawn) == 3

    def test_by_a_list(self, root, tmp_path):
        wnid = layouts.WNIDS[1]
        names = [f'{wnid}_11.JPEG', 'n01440764_20.JPEG', f'{wnid}_0.JPEG']
        listing = tmp_path / '1percent.txt'
        listing.write_text('\n'.join(names) + '\n')
        assert prepare(tiny('imagenet-1percent', subset_list=listing), root) == dict(train=3)
        assert lines(root, 'meta/train_1percent.txt') == [
            f'{wnid}/{names[0]} 1', f'n01440764/{names[1]} 0', f'{wnid}/{names[2]} 1',
        ]  # fmt: skip
        note = json.loads((root / 'meta' / 'train_1percent.json').read_text())
        assert note == dict(source='1percent.txt', seed=None, count=3)
        # Without a request the lists are complete however they were made.
        assert prepare(tiny('imagenet-1percent'), root) is None
        with pytest.raises(ValueError, match=r"drawn with {'seed': None}, not with {'seed': 0}"):
            prepare(tiny('imagenet-1percent', seed=0), root)

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('n01440764_0.JPEG\nn01440764_99.JPEG\n', '1 that are not in .*\n  n01440764_99.JPEG'),
            ('n01440764_0.JPEG\nn01440764_0.JPEG\n', '1 of them more than once'),
            ('', 'lists 0 images'),
        ],
    )
    def test_a_list_of_other_images(self, root, tmp_path, text, message):
        (tmp_path / 'list.txt').write_text(text)
        with pytest.raises(ValueError, match=message):
            prepare(tiny('imagenet-1percent', subset_list=tmp_path / 'list.txt'), root)
        assert not (root / 'meta' / 'train_1percent.txt').exists()

    def test_a_missing_list(self, root, tmp_path):
        with pytest.raises(FileNotFoundError, match='google-research/simclr'):
            prepare(tiny('imagenet-1percent', subset_list=tmp_path / 'list.txt'), root)

    def test_imagenet_comes_first(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='prepare_data.py imagenet'):
            prepare(tiny('imagenet-1percent'), tmp_path)
