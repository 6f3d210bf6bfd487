import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mmselfsup_invp.engine import SelfLabelHook
from mmselfsup_invp.engine.hooks import self_labelling
from mmselfsup_invp.evaluation import cluster_agreement
from mmselfsup_invp.memory import NonFiniteFeatures
from mmselfsup_invp.ops import sinkhorn_labels
from mmselfsup_invp.ops.self_label import relabel_iterations, relabel_times

from .. import toy
from .recording import Watch, log_text, scalars

DROPOUT = dict(neck=dict(hid_channels=(16,), dropout=0.5))
SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))


def hooks(**options):
    options = {'num_events': 7, 'spacing': 'linear', 'lambd': 10.0, **options}
    return [dict(type='EpochSeedHook'), dict(type='SelfLabelHook', **options)]


def runner_of(images, work_dir, epochs=2, hook=None, model=None, **changes):
    config = toy.sela_config(**(model or {}))
    return toy.build_runner(
        images, work_dir, epochs, model=config, custom_hooks=hooks(**hook or {}), **changes
    )


def train(images, work_dir, *others, epochs=2, **changes):
    runner = runner_of(images, work_dir, epochs, **changes)
    for other in others:
        runner.register_hook(other)
    runner.train()
    return runner


def label_hook(runner):
    (hook,) = (hook for hook in runner.hooks if type(hook) is SelfLabelHook)
    return hook


class Labels:
    """Records the labels that every step uses, and the network before and after the events."""

    def __init__(self):
        self.seen, self.states, self.after, self.modes = [], [], [], []
        self.hooks = [
            Watch('before_train_iter', self.before, priority='VERY_HIGH'),
            Watch('before_train_iter', self.relabelled, priority='LOWEST'),
        ]

    def before(self, runner, **_):
        self.states.append(state(runner.model))

    def relabelled(self, runner, **_):
        self.seen.append(runner.model.memory.labels.clone())
        self.after.append(state(runner.model))
        self.modes.append(runner.model.training)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def evaluated_labels(images, state, lambd=10.0, **solver):
    """Labels of both heads by a network in evaluation mode, one image at a time."""
    model = toy.build_model(toy.sela_config())
    model.load_state_dict(state)
    model.eval()
    features = []
    for item in toy.build_dataset(toy.loader(images, 'train')['dataset']):
        image = (item['inputs'][0][[2, 1, 0]].float()[None] - 127.5) / 127.5
        features.append(model.backbone(image)[0].mean(dim=(2, 3))[0].detach())
    logits = torch.stack(features).double() @ model.head.classifiers.weight.T.double()
    logits += model.head.classifiers.bias.double()
    heads = [part.log_softmax(dim=1) for part in logits.detach().split(3, dim=1)]
    solved = [sinkhorn_labels(head, lambd, **solver) for head in heads]
    return torch.stack([label for label, _ in solved], dim=1), [info for _, info in solved]


def eval_mode(images):
    return dict(relabel_mode='eval', relabel_dataloader=toy.loader(images, 'train', batch_size=5))


@pytest.fixture(scope='module')
def runs(images, tmp_path_factory):
    """Two recorded epochs of three batches each, by the mode of the network in the events."""
    found = {}
    for name, hook in (('train', {}), ('eval', eval_mode(images))):
        folder, labels = tmp_path_factory.mktemp(name), Labels()
        train(images, folder, *labels.hooks, hook=hook)
        found[name] = SimpleNamespace(
            labels=labels, metrics=scalars(folder, 'sela'), log=log_text(folder)
        )
    return found


class TestEvents:
    def test_labels_equal_those_of_the_network_in_evaluation_mode(self, images, runs):
        labels = runs['eval'].labels
        assert len(labels.seen) == 6
        due = relabel_iterations(relabel_times(24, 2, 7, 'linear'), 8)
        assert due[:5] == [0, 2, 4, 5, 7]  # The run has 6 iterations.
        current = labels.states[0]['memory.labels']
        for step, seen in enumerate(labels.seen):
            if step in due:
                expected, _ = evaluated_labels(images, labels.states[step])
                assert not torch.equal(expected, current)
                current = expected
            assert torch.equal(seen, current), step

    def test_power_schedule_ends_with_the_run(self, images, tmp_path):
        runner = runner_of(images, tmp_path, 4, hook=dict(num_events=5, spacing='power'))
        hook = label_hook(runner)
        runner.call_hook('before_run')
        times = relabel_times(24, 3, 5, 'power')  # The official loop adds an epoch.
        expected = relabel_iterations(times, 8)
        assert hook.schedule(runner) == {iteration: e for e, iteration in enumerate(expected)}
        hook.schedule_epochs = 7
        assert list(hook.schedule(runner)) == relabel_iterations(
            relabel_times(24, 7, 5, 'power'), 8
        )

    def test_heads_in_turn(self, images, tmp_path):
        labels = Labels()
        options = dict(heads='rotate', num_events=9, spacing='linear', **eval_mode(images))
        train(images, tmp_path, *labels.hooks, epochs=4, hook=options)
        for step, (state, seen) in enumerate(zip(labels.states, labels.seen, strict=True)):
            changed = (state['memory.labels'] != seen).any(dim=0)
            assert not changed[1 - (step // 3) % 2]
            if step == 0:
                assert changed[0]
        initial = labels.states[0]['memory.labels']
        assert not torch.equal(labels.seen[-1][:, 1], initial[:, 1])

    @pytest.mark.parametrize('mode', ['train', 'eval'])
    def test_only_training_mode_updates_the_statistics(self, runs, mode):
        labels, name = runs[mode].labels, 'backbone.bn1.running_mean'
        before, after = labels.states[0][name], labels.after[0][name]
        assert torch.equal(before, after) == (mode == 'eval')
        assert not torch.equal(after, labels.after[1][name])
        assert labels.modes == [True] * 6  # The training mode is restored.

    def test_in_training_mode_images_are_augmented_and_features_dropped(self, images, tmp_path):
        """Both are random, so the features of two events with the same network differ."""
        runner = runner_of(images, tmp_path, model=DROPOUT)
        hook, found = label_hook(runner), []

        def collect(runner):
            runner.model.train()
            found.extend(hook.extract(runner, event) for event in (0, 0, 1))

        runner.register_hook(Watch('before_train_epoch', collect))
        runner.train()
        # Only the running statistics have changed, which training mode does not use.
        torch.testing.assert_close(found[0], found[1])
        assert not torch.allclose(found[0], found[2])

    @pytest.mark.parametrize('storage', ['features', 'host'])
    def test_storage_does_not_change_the_labels(self, images, tmp_path, storage, monkeypatch):
        monkeypatch.setattr(self_labelling, 'default_elements', lambda device: 15)
        seen = []
        for name in ('log_prob', storage):
            labels = Labels()
            train(images, tmp_path / name, *labels.hooks, hook=dict(storage=name))
            seen.append(labels.seen)
        for one, other in zip(*seen, strict=True):
            assert torch.equal(one, other)

    def test_balanced(self, images, tmp_path):
        runner = train(images, tmp_path, hook=dict(balanced=True, lambd=1.0))
        for column in runner.model.memory.labels.T:
            assert column.bincount().tolist() == [8, 8, 8]

    def test_the_loader_is_a_copy_built_before_the_run(self, images, tmp_path):
        runner = runner_of(images, tmp_path)
        hook = label_hook(runner)
        runner.call_hook('before_run')
        loader = hook.relabel_dataloader
        assert isinstance(loader, DataLoader) and loader is not runner.train_dataloader
        assert loader.dataset is not runner.train_dataloader.dataset

    def test_a_missing_list_is_an_error_before_training(self, images, tmp_path):
        labels, loader = Labels(), toy.loader(images, ann_file='meta/none.txt')
        hook = dict(relabel_mode='eval', relabel_dataloader=loader)
        with pytest.raises(FileNotFoundError, match='meta/none.txt'):
            train(images, tmp_path, *labels.hooks, hook=hook)
        assert not labels.seen


class TestRandomState:
    def test_an_event_leaves_it_as_it_was(self, images, tmp_path):
        states = []

        def note(runner, **_):
            states.append((random.getstate(), np.random.get_state()[1], torch.get_rng_state()))

        before = Watch('before_train_iter', note, priority='HIGH')  # After EpochSeedHook.
        after = Watch('before_train_iter', note, priority='LOWEST')
        train(images, tmp_path, before, after, epochs=1, model=DROPOUT)
        assert len(states) == 6
        for one, other in zip(states[::2], states[1::2], strict=True):
            assert one[0] == other[0] and (one[1] == other[1]).all()
            assert torch.equal(one[2], other[2])


class TestLog:
    def test_metrics_after_every_event(self, images, runs):
        labels, metrics, text = runs['eval'].labels, runs['eval'].metrics, runs['eval'].log
        assert list(metrics) == [0, 2, 4, 5]
        truth = torch.tensor([i % 3 for i in range(24)])
        for step, found in metrics.items():
            before, label = labels.states[step], labels.seen[step]
            _, infos = evaluated_labels(images, before)
            sizes = torch.stack([column.bincount(minlength=3) for column in label.T])
            changed = (label != before['memory.labels']).float().mean().item()
            expected = dict(
                change_ratio=changed,
                empty=(sizes == 0).sum().item() / 2,
                smallest=sizes.min().item(),
                largest=sizes.max().item(),
                passes=sum(info.iterations for info in infos) / 2,
                cost=sum(info.cost for info in infos) / 2,
            )
            for name in ('nmi', 'ari', 'accuracy'):
                heads = [cluster_agreement(column, truth)[name] for column in label.T]
                expected[name] = sum(heads) / 2
            assert set(found) == {f'sela/{name}' for name in (*expected, 'entropy', 'error')}
            for name, value in expected.items():
                assert found[f'sela/{name}'] == pytest.approx(value, rel=1e-4), name
            assert 0 <= found['sela/entropy'] <= 1 and 0 <= found['sela/error'] <= 0.01
        assert 'Relabelled 24 images' in text and 'Iter(sela) [5]  change_ratio' in text

    @pytest.mark.parametrize('ann_file', toy.NOT_ONE_LABEL)
    def test_without_true_labels(self, images, tmp_path, ann_file):
        loader = toy.loader(images, views=toy.VIEWS, ann_file=ann_file)
        train(images, tmp_path, epochs=1, train_dataloader=loader)
        (first, *_) = scalars(tmp_path, 'sela').values()
        assert 'sela/cost' in first and not {'sela/nmi', 'sela/ari'} & set(first)

    def test_too_few_passes_are_warned_of(self, images, tmp_path):
        train(images, tmp_path, epochs=1, hook=dict(max_iter=1, tol=1e-9, lambd=25.0))
        message = '2 of 2 heads did not converge to tol = 1e-09 within 1 passes'
        assert message in log_text(tmp_path)


class TestErrors:
    @pytest.mark.parametrize(
        ('option', 'value'),
        [
            *(('num_events', 1), ('spacing', 'cubic'), ('heads', 'one')),
            *(('relabel_mode', 'test'), ('criterion', 'strict'), ('storage', 'disk')),
        ],
    )
    def test_wrong_options_are_named(self, option, value):
        with pytest.raises(ValueError, match=f'{option} = {value!r} is not valid'):
            SelfLabelHook(**{option: value})

    def test_evaluation_mode_needs_a_loader(self):
        with pytest.raises(ValueError, match="relabel_mode='eval' needs relabel_dataloader"):
            SelfLabelHook(relabel_mode='eval')

    def test_fewer_images_than_classes(self, images, tmp_path):
        many = dict(num_classes=25)
        message = 'num_classes = 25 is outside the valid range 1 to 24: 24 images cannot fill more'
        with pytest.raises(ValueError, match=message):
            train(images, tmp_path, model=dict(head=many, memory=many))

    def test_a_loader_that_leaves_images_out(self, images, tmp_path):
        loader = toy.loader(images, 'train', batch_size=5)
        loader['drop_last'] = True
        with pytest.raises(ValueError, match='leaves out 4 of 24 images'):
            train(images, tmp_path, hook=dict(relabel_mode='eval', relabel_dataloader=loader))

    def test_features_that_are_not_finite(self, images, tmp_path):
        def spoil(runner, **_):
            runner.model.backbone.conv1.weight.data[0, 0, 0, 0] = torch.nan

        with pytest.raises(ValueError, match='contain NaN or Inf.*diverged'):
            train(images, tmp_path, Watch('before_train_epoch', spoil))

    def test_features_of_a_step_are_checked_before_an_event(self, images, tmp_path):
        """An event precedes the third iteration; the first regular check comes after it."""
        steps = []

        def spoil(runner, **_):
            steps.append(runner.iter)
            if runner.iter == 1:
                runner.model.backbone.conv1.weight.data.fill_(torch.nan)

        with pytest.raises(NonFiniteFeatures, match='NaN or Inf in iteration 2, first for the'):
            train(images, tmp_path, Watch('before_train_iter', spoil))
        assert steps == [0, 1]
