"""What the hooks of all methods share: sizes, ids, NaN, collapse, and safe resuming."""

import os
import random
import re
import shutil

import pytest
import torch

from mmselfsup_invp.engine.hooks import (
    OnlineClusterHook,
    PropagationMemoryHook,
    SelfLabelHook,
)
from mmselfsup_invp.engine.hooks.feature_similarity import DECAY, mean_similarity
from mmselfsup_invp.engine.hooks.image_order import IMAGE_ORDER, image_order
from mmselfsup_invp.engine.hooks.memory_hook import MemoryHook
from mmselfsup_invp.memory import NonFiniteFeatures
from mmselfsup_invp.models.memories import memories_of

from .. import toy
from .methods import MODELS, changes, hook_config
from .recording import Watch, log_text, scalars

# One method for each hook.
HOOKS = {'InvP': PropagationMemoryHook, 'InterCLR': OnlineClusterHook, 'SeLa': SelfLabelHook}
SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))


def runner_of(name, images, work_dir, *others, epochs=2, **options):
    runner = toy.build_runner(images, work_dir, epochs, **changes(name, images, **options))
    for other in others:
        runner.register_hook(other)
    return runner


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, MemoryHook))


class TestBeforeRun:
    @pytest.mark.parametrize('name', MODELS)
    def test_every_memory_is_fitted(self, images, tmp_path, name):
        runner = runner_of(name, images, tmp_path)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.call_hook('before_run')
        memories = memories_of(runner.model)
        assert len(memories) == (2 if name == 'MomentumInterCLR' else 1)
        hook = hook_of(runner)
        assert {id(memory) for memory in hook.memories} == {id(memory) for memory in memories}
        for memory in memories:
            rows = {len(value) for key, value in memory.state_dict().items() if key == 'bank'}
            assert rows <= ({24} if memory.holds_images else {20})

    @pytest.mark.parametrize('name', HOOKS)
    def test_a_loop_without_epochs_is_refused(self, images, tmp_path, name):
        loop = dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=4), param_scheduler=None)
        runner = toy.build_runner(images, tmp_path, **changes(name, images), **loop)
        message = f'{HOOKS[name].__name__} counts epochs, which IterBasedTrainLoop does not'
        with pytest.raises(TypeError, match=message):
            runner.train()

    @pytest.mark.parametrize(
        ('name', 'other', 'message'),
        [
            ('InvP', 'SeLa', 'needs a model with a PropagationMemory or PropagationQueue, SeLa'),
            ('InterCLR', 'InvP', 'needs a model with a ClusterMemory, InvP has none. Use it with '),
            ('SeLa', 'InvP', 'needs a model with a SelfLabelMemory, InvP has none. .* with SeLa'),
        ],
    )
    def test_another_model_is_refused(self, images, tmp_path, name, other, message):
        config = dict(changes(name, images), model=MODELS[other])
        with pytest.raises(TypeError, match=f'{HOOKS[name].__name__} {message}'):
            toy.build_runner(images, tmp_path, **config).train()

    def test_another_length_than_the_data_set_is_refused(self, images, tmp_path):
        model = dict(memory=dict(length=25))
        with pytest.raises(ValueError, match='has 25 rows, the data set 24 images'):
            toy.build_runner(images, tmp_path, model=model).train()

    @pytest.mark.parametrize('interval', ['check_interval', 'health_interval'])
    def test_wrong_intervals_are_named(self, interval):
        with pytest.raises(ValueError, match=f'{interval} = -1 is outside'):
            MemoryHook(**{interval: -1})
        with pytest.raises(ValueError, match='check_interval = 0 is outside'):
            MemoryHook(check_interval=0)


class TestIds:
    @pytest.mark.parametrize('name', HOOKS)
    @pytest.mark.parametrize('index', [24, -1])
    def test_an_id_outside_the_data_set_is_named(self, images, tmp_path, name, index):
        def replace(runner, batch_idx, data_batch):
            if batch_idx == 2:
                data_batch['data_samples'] = toy.samples(*range(7), index)

        runner = runner_of(name, images, tmp_path, Watch('before_train_iter', replace, 'HIGHEST'))
        message = f'sample_idx {index} is outside 0 to 23, the images of the training data set'
        with pytest.raises(ValueError, match=message):
            runner.train()
        assert runner.iter == 2

    def test_missing_ids_are_named_by_the_algorithm(self, images, tmp_path):
        loader = toy.loader(images, views=toy.VIEWS)
        loader['dataset']['pipeline'][-1]['algorithm_keys'] = []
        with pytest.raises(ValueError, match='carry no sample_idx'):
            toy.build_runner(images, tmp_path, train_dataloader=loader).train()

    def test_joined_data_sets_are_refused(self, images, tmp_path):
        loader = toy.loader(images, views=toy.VIEWS)
        loader['dataset'] = dict(type='ConcatDataset', datasets=[loader['dataset']] * 2)
        with pytest.raises(ValueError, match='ConcatDataset numbers the images of each part'):
            toy.build_runner(images, tmp_path, train_dataloader=loader).train()

    def test_repeated_data_sets_share_rows(self, images, tmp_path):
        loader = toy.loader(images, views=toy.VIEWS)
        loader['dataset'] = dict(type='RepeatDataset', times=2, dataset=loader['dataset'])
        runner = toy.build_runner(images, tmp_path, 1, train_dataloader=loader)
        runner.train()
        assert runner.iter == 6 and len(runner.model.memory.bank) == 24

    def test_an_empty_data_set_is_refused(self, images, tmp_path):
        (tmp_path / 'none.txt').touch()
        loader = toy.loader(images, ann_file=str(tmp_path / 'none.txt'))
        loader['dataset'].update(type='mmcls.CustomDataset', serialize_data=True)
        with pytest.raises(ValueError, match='CustomDataset holds no image'):
            toy.build_runner(images, tmp_path / 'work', train_dataloader=loader).train()


class TestNonFinite:
    @pytest.mark.parametrize('name', MODELS)
    @pytest.mark.parametrize(('interval', 'stops'), [(1, 4), (5, 5), (50, 6)])
    def test_features_stop_the_run_at_the_next_check(
        self, images, tmp_path, name, interval, stops
    ):
        """The end of an epoch, after iteration 6, is a check too."""

        def spoil(runner, **_):
            if runner.iter == 3:
                runner.model.backbone.conv1.weight.data.fill_(torch.nan)

        watch = Watch('before_train_iter', spoil)
        # An event or a repair between the checks would fail for a reason of its own.
        options = dict(num_events=2, schedule_epochs=9) if name == 'SeLa' else {}
        runner = runner_of(name, images, tmp_path, watch, check_interval=interval, **options)
        with pytest.raises(NonFiniteFeatures, match='in iteration 4, first for the samples') as at:
            runner.train()
        assert runner.iter + (stops != 6) == stops and 'learning rate' in str(at.value)
        for memory in memories_of(runner.model):
            assert all(value.isfinite().all() for value in memory.state_dict().values())


class Features:
    """Records the features of every training step, or replaces them by others."""

    def __init__(self, replacement=None):
        self.seen, self.replacement = [], replacement
        self.watch = Watch('before_run', self.attach)

    def attach(self, runner):
        runner.model.neck.register_forward_hook(self.observe)

    def observe(self, neck, inputs, output):
        if self.replacement is not None:
            output = [output[0] * 0 + self.replacement, *output[1:]]
        if neck.training and torch.is_grad_enabled():
            self.seen.append(output[0].detach().clone())
        return output


class TestCollapse:
    ADVICE = dict(
        InvP='a linear neck (model.neck.hid_channels=None), a lower temperature',
        InterCLR='a linear neck (model.neck.hid_channels=None), a lower temperature',
        ODC='a lower learning rate (optim_wrapper.optimizer.lr), more frequent repairs',
        SeLa='a lower learning rate (optim_wrapper.optimizer.lr), more labelling events',
    )

    @pytest.mark.parametrize('name', MODELS)
    def test_a_warning_names_what_to_try_within_the_first_epoch(self, images, tmp_path, name):
        features = Features(replacement=1.0)
        options = dict(ramp='binary', ramp_epochs=30) if 'InvP' in name else {}
        runner_of(name, images, tmp_path, features.watch, epochs=1, **options).train()
        assert scalars(tmp_path, 'features')[1]['features/similarity'] == pytest.approx(1)
        (warning,) = re.findall('WARNING - features: (.*)', log_text(tmp_path))
        assert 'almost alike (mean cosine similarity 1.00, 1 if all are equal)' in warning
        assert self.ADVICE[name.removeprefix('Momentum')] in warning

    @pytest.mark.parametrize('name', MODELS)
    def test_the_similarity_is_that_of_the_last_batches_of_an_epoch(self, images, tmp_path, name):
        features = Features()
        runner_of(name, images, tmp_path, features.watch).train()
        logged = scalars(tmp_path, 'features')
        assert list(logged) == [1, 2] and len(features.seen) == 6
        for epoch in (1, 2):
            batches = features.seen[3 * epoch - 3 : 3 * epoch]
            values = [mean_similarity(batch.flatten(1)).item() for batch in batches]
            mean = (DECAY**2 * values[0] + DECAY * values[1] + values[2]) / (DECAY**2 + DECAY + 1)
            assert logged[epoch]['features/similarity'] == pytest.approx(mean, abs=1e-5)

    @pytest.mark.parametrize(('similarity', 'warned'), [(0.8, False), (0.82, True)])
    def test_the_limit(self, images, tmp_path, similarity, warned):
        """Features with one common direction: pairs of images have its squared share in common."""
        batch = torch.cat([torch.eye(8) * (1 - similarity) ** 0.5, torch.zeros(8, 8)], dim=1)
        batch[:, 15] = similarity**0.5
        runner_of('InvP', images, tmp_path, Features(batch).watch, epochs=1).train()
        logged = scalars(tmp_path, 'features')[1]['features/similarity']
        assert logged == pytest.approx(similarity, abs=1e-5)
        assert ('WARNING - features: ' in log_text(tmp_path)) == warned

    def test_two_hooks_log_it_once(self, images, tmp_path):
        config = dict(model=toy.model_config(branch=toy.branch_config()))
        names = ('InvP', 'InterCLR')
        config['custom_hooks'] = [hook_config(name, images) for name in names]
        toy.build_runner(images, tmp_path, 1, **config).train()
        assert log_text(tmp_path).count('Epoch(features) [1]') == 1


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
        message = r'memory.bank of shape \(24, 16\), this run has \(21, 16\): .*another data set'
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

    def test_repeats_and_one_image(self, images, tmp_path):
        once = toy.loader(images)['dataset']
        repeated = dict(type='RepeatDataset', times=3, dataset=once)
        orders = [image_order(toy.build_dataset(one)) for one in (once, repeated)]
        assert orders[0] == orders[1] and orders[0].startswith('24 ')
        (tmp_path / 'one.txt').write_text('000.png 0\n')
        single = toy.loader(images, ann_file=str(tmp_path / 'one.txt'))['dataset']
        assert image_order(toy.build_dataset(single)).startswith('1 ')

    def test_names_that_are_not_utf8(self):
        class Names:
            def __init__(self, *names):
                self.names = [os.fsdecode(name) for name in names]

            def __len__(self):
                return len(self.names)

            def get_data_info(self, row):
                return dict(img_path=f'/data/{self.names[row]}')

        first, second = image_order(Names(b'a\xff', b'b')), image_order(Names(b'a\xfe', b'b'))
        assert first != second and image_order(Names(b'a\xff', b'b')) == first
