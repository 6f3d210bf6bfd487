"""A run resumes from a checkpoint of its own model and images, and from no other."""

import os
import random
import shutil

import pytest
import torch

from mmselfsup_invp.datasets.transforms import UnreadableImage
from mmselfsup_invp.engine.hooks.image_order import (
    IMAGE_ORDER,
    image_order,
    image_sizes,
    require_same_sizes,
    sampled_paths,
)

from .. import toy
from ..toy import stop_workers
from .methods import changes
from .recording import Watch

SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))


@pytest.fixture(scope='module')
def work_dir(images, tmp_path_factory):
    """The work folder of one epoch of InvP."""
    folder = tmp_path_factory.mktemp('work')
    toy.build_runner(images, folder, 1, **SAVE).train()
    return folder


def resume(images, work_dir, tmp_path, **changes):
    """Resume for an epoch from a copy of the folder's checkpoint."""
    checkpoint = shutil.copy(work_dir / 'epoch_1.pth', tmp_path)
    start = dict(resume=True, load_from=str(checkpoint), **SAVE)
    runner = toy.build_runner(images, tmp_path / 'resumed', 2, **{**start, **changes})
    runner.train()
    return runner


class Names:
    """A data set of images with these names."""

    def __init__(self, *names: bytes):
        self.names = [os.fsdecode(name) for name in names]

    def __len__(self):
        return len(self.names)

    def get_data_info(self, row):
        return dict(img_path=f'/data/{self.names[row]}')


class TestModel:
    def test_the_same_model_and_images(self, images, work_dir, tmp_path):
        assert resume(images, work_dir, tmp_path).epoch == 2

    def test_a_bank_of_another_type(self, images, work_dir, tmp_path):
        model = dict(memory=dict(dtype='float16'))
        assert resume(images, work_dir, tmp_path, model=model).epoch == 2

    @pytest.mark.parametrize(
        ('name', 'model', 'message'),
        [
            ('InterCLR', {}, 'not in the checkpoint: branch.memory.bank, .* not in the model'),
            ('MomentumInvP', {}, 'not in the checkpoint: '),
            ('InvP', dict(neck=dict(hid_channels=None)), 'not in the model: neck'),
            ('InvP', dict(backbone=dict(depth=34)), 'not in the checkpoint: backbone.layer1.2'),
            ('InvP', dict(neck=dict(hid_channels=8)), 'of another shape: neck'),
        ],
    )
    def test_another_model_is_refused(self, images, work_dir, tmp_path, name, model, message):
        config = changes(name, images)
        config['model'] = toy.merged(config['model'], model)
        with pytest.raises(ValueError, match=f'not a checkpoint of this {name}. .*{message}'):
            resume(images, work_dir, tmp_path, **config)

    def test_weights_alone_may_come_from_another_model(self, images, work_dir, tmp_path):
        config = dict(resume=False, model=dict(neck=dict(hid_channels=None)))
        assert resume(images, work_dir, tmp_path, **config).epoch == 2

    def test_another_number_of_images_is_refused(self, work_dir, tmp_path):
        fewer = toy.image_folder(tmp_path / 'fewer', images=21)
        message = (
            r'memory.features.bank of shape \(24, 16\), this run has \(21, 16\): .*another data set'
        )
        with pytest.raises(ValueError, match=message):
            resume(fewer, work_dir, tmp_path)


class TestOrder:
    @pytest.fixture
    def copy(self, images, tmp_path):
        """The same images in another folder."""
        return shutil.copytree(images, tmp_path / 'elsewhere')

    def shuffle(self, folder):
        path = folder / 'meta' / 'train.txt'
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(''.join(random.Random(0).sample(lines, len(lines))))

    def test_the_images_may_be_moved(self, work_dir, copy, tmp_path):
        assert resume(copy, work_dir, tmp_path).epoch == 2

    def test_another_order_is_refused(self, work_dir, copy, tmp_path):
        self.shuffle(copy)
        with pytest.raises(ValueError, match='other images, or on the same images in another ord'):
            resume(copy, work_dir, tmp_path)

    def test_a_checkpoint_without_the_order_is_accepted(self, work_dir, copy, tmp_path):
        self.shuffle(copy)
        old = torch.load(work_dir / 'epoch_1.pth')
        del old['meta'][IMAGE_ORDER]
        (tmp_path / 'old').mkdir()
        torch.save(old, tmp_path / 'old' / 'epoch_1.pth')
        assert resume(copy, tmp_path / 'old', tmp_path).epoch == 2

    def test_the_slots_of_a_queue_have_no_order(self, copy, tmp_path):
        config = dict(changes('MomentumInvP', copy), **SAVE)
        toy.build_runner(copy, tmp_path, 1, **config).train()
        self.shuffle(copy)
        (tmp_path / 'next').mkdir()
        assert resume(copy, tmp_path, tmp_path / 'next', **config).epoch == 2

    def swap(self, folder, first='000.png', second='001.png'):
        """Exchange the contents of two files, of different sizes, under the same names."""
        one, other = folder / 'train' / first, folder / 'train' / second
        assert one.stat().st_size != other.stat().st_size
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)

    def test_changed_contents_are_refused_by_name(self, work_dir, copy, tmp_path):
        self.swap(copy)
        message = (
            '(?s)contents of 2 images were changed .*train/000.png, .*train/001.png. Their row'
        )
        with pytest.raises(ValueError, match=message):
            resume(copy, work_dir, tmp_path)

    def test_the_contents_may_change_where_rows_are_no_images(self, copy, tmp_path):
        config = dict(changes('MomentumInvP', copy), **SAVE)
        toy.build_runner(copy, tmp_path, 1, **config).train()
        self.swap(copy)
        (tmp_path / 'next').mkdir()
        assert resume(copy, tmp_path, tmp_path / 'next', **config).epoch == 2

    def test_files_that_are_missing_at_one_time_are_not_compared(self, copy):
        dataset = toy.build_dataset(toy.loader(copy)['dataset'])
        before = image_sizes(dataset)
        (copy / 'train' / '003.png').unlink()
        after = image_sizes(dataset)
        assert after[3] == -1 and (before > 0).all()
        require_same_sizes(before, dataset)
        require_same_sizes(after, dataset)

    @pytest.mark.parametrize('num_workers', [0, pytest.param(2, marks=pytest.mark.slow)])
    def test_a_file_that_vanishes_while_training_is_named(self, copy, tmp_path, num_workers):
        """The run stops; with the file restored, it resumes."""
        loader = toy.loader(copy, views=toy.VIEWS, num_workers=num_workers)
        config = dict(train_dataloader=loader, **SAVE)
        runner = toy.build_runner(copy, tmp_path / 'work', 3, **config)
        image, moved = copy / 'train' / '005.png', tmp_path / '005.png'
        runner.register_hook(Watch('after_train_epoch', lambda _: shutil.move(image, moved)))
        with pytest.raises(UnreadableImage, match='train/005.png .FileNotFoundError'):
            runner.train()
        stop_workers(runner.train_dataloader)
        shutil.move(moved, image)
        assert resume(copy, tmp_path / 'work', tmp_path, **config).epoch == 2

    def test_repeats_and_one_image(self, images, tmp_path):
        once = toy.loader(images)['dataset']
        repeated = dict(type='RepeatDataset', times=3, dataset=once)
        orders = [image_order(toy.build_dataset(one)) for one in (once, repeated)]
        assert orders[0] == orders[1] and orders[0].startswith('24 ')
        (tmp_path / 'one.txt').write_text('000.png 0\n')
        single = toy.loader(images, ann_file=str(tmp_path / 'one.txt'))['dataset']
        assert image_order(toy.build_dataset(single)).startswith('1 ')

    def test_names_that_are_not_utf8(self):
        first, second = image_order(Names(b'a\xff', b'b')), image_order(Names(b'a\xfe', b'b'))
        assert first != second and image_order(Names(b'a\xff', b'b')) == first

    @pytest.mark.parametrize(
        ('most', 'rows'), [(4, [0, 3, 6, 9]), (2, [0, 9]), (10, range(10)), (99, range(10))]
    )
    def test_the_paths_are_evenly_spaced(self, most, rows, monkeypatch):
        monkeypatch.setattr('mmselfsup_invp.engine.hooks.image_order.MAX_PATHS', most)
        names = [b'%d' % row for row in range(10)]
        assert sampled_paths(Names(*names)) == (10, [f'/data/{row}' for row in rows])
