"""What the hooks of all methods share: sizes, ids, features that are not finite or collapse."""

import math
import re

import pytest
import torch

from mmselfsup_invp.engine.hooks import (
    OnlineClusterHook,
    PropagationMemoryHook,
    SelfLabelHook,
    online_cluster_hook,
    self_labelling,
)
from mmselfsup_invp.engine.hooks.feature_similarity import DECAY, mean_similarity
from mmselfsup_invp.engine.hooks.memory_hook import MemoryHook
from mmselfsup_invp.memory import NonFiniteFeatures
from mmselfsup_invp.models.memories import memories_of

from .. import toy
from .methods import MODELS, changes, hook_config
from .recording import Steps, Watch, ids_of, log_text, scalars

# One method for each hook.
HOOKS = {'InvP': PropagationMemoryHook, 'InterCLR': OnlineClusterHook, 'SeLa': SelfLabelHook}


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
        with pytest.raises(ValueError, match=f'{interval} = -1 is not valid'):
            MemoryHook(**{interval: -1})
        with pytest.raises(ValueError, match='check_interval = 0 is not valid'):
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
    @pytest.mark.parametrize(
        ('name', 'interval', 'stops'),
        [('InvP', 5, 5), ('InvP', 50, 6), *((name, 1, 4) for name in MODELS)],
    )
    def test_features_stop_the_run_at_the_next_check(self, images, tmp_path, name, interval, stops):
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

    def poison(self, at=4, position=2):
        """A hook that makes the embedding of one image of one batch NaN, and a dict for its id."""
        found = {}

        def watch(runner, data_batch, **_):
            if runner.iter + 1 == at:
                found['id'] = ids_of(data_batch)[position].item()

                def spoil(module, inputs, output):
                    handle.remove()
                    factor = torch.ones(len(output[0]), 1)
                    factor[position] = math.nan
                    return [output[0] * factor]

                handle = runner.model.neck.register_forward_hook(spoil)

        return Watch('before_train_iter', watch), found

    def test_the_image_is_named_and_keeps_its_row(self, images, tmp_path):
        watch, found = self.poison()
        steps = Steps()
        with pytest.raises(NonFiniteFeatures) as raised:
            runner_of('InvP', images, tmp_path, steps, watch).train()
        bad = found['id']
        message = f'NaN or Inf in iteration 4, first for the samples [{bad}]. '
        assert message in str(raised.value) and 'learning rate' in str(raised.value)
        for name in ('bank', 'neighbours'):
            before, after = steps.before[3][name], steps.after[3][name]
            assert torch.equal(before[bad], after[bad])
            if name == 'bank':
                fine = [i for i in steps.ids[3].tolist() if i != bad]
                assert not (before[fine] == after[fine]).all(dim=1).any()
            # The NaN loss has destroyed the weights: no later feature is finite.
            assert torch.equal(after, steps.after[5][name])
        torch.testing.assert_close(steps.after[5]['bank'].norm(dim=1), torch.ones(24))


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
        assert self.ADVICE[name.removeprefix('Momentum').removeprefix('MultiView')] in warning

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

    @pytest.mark.parametrize(('similarity', 'warned'), [(0.94, False), (0.96, True)])
    def test_the_limit(self, images, tmp_path, similarity, warned):
        """Features with one common direction: pairs of images have its squared share in common."""
        batch = torch.cat([torch.eye(8) * (1 - similarity) ** 0.5, torch.zeros(8, 8)], dim=1)
        batch[:, 15] = similarity**0.5
        runner_of('InvP', images, tmp_path, Features(batch).watch, epochs=1).train()
        logged = scalars(tmp_path, 'features')[1]['features/similarity']
        assert logged == pytest.approx(similarity, abs=1e-5)
        assert ('WARNING - features: ' in log_text(tmp_path)) == warned

    @pytest.mark.parametrize(
        ('name', 'group'), [('InterCLR', 'clusters'), ('ODC', 'clusters'), ('SeLa', 'sela')]
    )
    @pytest.mark.parametrize(('entropy', 'warned'), [(0.49, True), (0.51, False)])
    def test_labels_that_most_images_share(
        self, images, tmp_path, monkeypatch, name, group, entropy, warned
    ):
        for module in (online_cluster_hook, self_labelling):
            health = dict(empty=0, smallest=1, largest=9, entropy=entropy)
            monkeypatch.setattr(module, 'cluster_health', lambda size, found=health: dict(found))
        runner_of(name, images, tmp_path, epochs=1).train()
        advice = re.findall(
            f'WARNING - {group}: most images share .* order: (.*)', log_text(tmp_path)
        )
        assert len(advice) == warned
        assert all(self.ADVICE[name] in text for text in advice)

    def test_two_hooks_log_it_once(self, images, tmp_path):
        config = dict(model=toy.model_config(branch=toy.branch_config()))
        names = ('InvP', 'InterCLR')
        config['custom_hooks'] = [hook_config(name, images) for name in names]
        toy.build_runner(images, tmp_path, 1, **config).train()
        assert log_text(tmp_path).count('Epoch(features) [1]') == 1
