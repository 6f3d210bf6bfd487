"""A run goes on from a checkpoint of its own model and images, and from no other."""

import random
import shutil

import pytest
import torch

from mmselfsup_invp.engine.hooks.memory_hook import ORDER, image_order

from .. import toy

SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))


@pytest.fixture(scope='module')
def work_dir(images, tmp_path_factory):
    """The work folder of one epoch of InvP."""
    folder = tmp_path_factory.mktemp('work')
    toy.build_runner(images, folder, 1, **SAVE).train()
    return folder


def resume(images, work_dir, tmp_path, **changes):
    """Go on for an epoch, in a copy of the folder's checkpoint."""
    checkpoint = shutil.copy(work_dir / 'epoch_1.pth', tmp_path)
    start = dict(resume=True, load_from=str(checkpoint), **SAVE)
    runner = toy.build_runner(images, tmp_path / 'resumed', 2, **{**start, **changes})
    runner.train()
    return runner


def test_the_same_model_and_images(images, work_dir, tmp_path):
    assert resume(images, work_dir, tmp_path).epoch == 2


def test_a_bank_of_another_type(images, work_dir, tmp_path):
    changes = dict(model=dict(memory=dict(dtype='float16')))
    assert resume(images, work_dir, tmp_path, **changes).epoch == 2


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (toy.interclr_config(), 'not in the checkpoint: branch.memory.bank, .* not in the model'),
        (toy.model_config('MomentumInvP', memory=dict(length=20)), 'not in the checkpoint: '),
        (dict(neck=dict(hid_channels=None)), 'not in the model: neck'),
        (dict(backbone=dict(depth=34)), 'not in the checkpoint: backbone.layer1.2'),
        (dict(neck=dict(hid_channels=8)), 'of another shape: neck'),
    ],
)
def test_another_model_is_refused(images, work_dir, tmp_path, model, message):
    name = model.get('type', 'InvP')
    changes = dict(model=model)
    if name == 'InterCLR':
        clusters = dict(type='OnlineClusterHook', extract_dataloader=toy.loader(images))
        changes['custom_hooks'] = [dict(type='EpochSeedHook'), clusters]
    if name == 'MomentumInvP':
        changes['train_dataloader'] = toy.loader(images, views=toy.VIEWS, num_views=2)
    with pytest.raises(ValueError, match=f'not a checkpoint of this {name}. .*{message}'):
        resume(images, work_dir, tmp_path, **changes)


def test_what_is_only_loaded_may_be_of_another_model(images, work_dir, tmp_path):
    changes = dict(resume=False, model=dict(neck=dict(hid_channels=None)))
    assert resume(images, work_dir, tmp_path, **changes).epoch == 2


class TestOrder:
    @pytest.fixture
    def copy(self, images, tmp_path):
        """The same images, elsewhere."""
        return shutil.copytree(images, tmp_path / 'elsewhere')

    def shuffle(self, folder):
        path = folder / 'meta' / 'train.txt'
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(''.join(random.Random(0).sample(lines, len(lines))))

    def test_the_images_may_be_moved(self, work_dir, copy, tmp_path):
        assert resume(copy, work_dir, tmp_path).epoch == 2

    def test_another_order_is_refused(self, work_dir, copy, tmp_path):
        self.shuffle(copy)
        with pytest.raises(ValueError, match='had other images, or the same in another order'):
            resume(copy, work_dir, tmp_path)

    def test_a_checkpoint_that_does_not_tell_is_taken(self, work_dir, copy, tmp_path):
        self.shuffle(copy)
        old = torch.load(work_dir / 'epoch_1.pth')
        del old['meta'][ORDER]
        (tmp_path / 'old').mkdir()
        torch.save(old, tmp_path / 'old' / 'epoch_1.pth')
        assert resume(copy, tmp_path / 'old', tmp_path).epoch == 2

    def test_slots_of_a_queue_are_no_images(self, copy, tmp_path):
        model = toy.model_config('MomentumInvP', memory=dict(length=20))
        loader = toy.loader(copy, views=toy.VIEWS, num_views=2)
        changes = dict(model=model, train_dataloader=loader, **SAVE)
        toy.build_runner(copy, tmp_path, 1, **changes).train()
        self.shuffle(copy)
        (tmp_path / 'next').mkdir()
        assert resume(copy, tmp_path, tmp_path / 'next', **changes).epoch == 2

    def test_repeats_and_one_image(self, images, tmp_path):
        once = toy.loader(images)['dataset']
        repeated = dict(type='RepeatDataset', times=3, dataset=once)
        orders = [image_order(toy.build_dataset(one)) for one in (once, repeated)]
        assert orders[0] == orders[1] and orders[0].startswith('24 ')
        (tmp_path / 'one.txt').write_text('000.png 0\n')
        single = toy.loader(images, ann_file=str(tmp_path / 'one.txt'))['dataset']
        assert image_order(toy.build_dataset(single)).startswith('1 ')
