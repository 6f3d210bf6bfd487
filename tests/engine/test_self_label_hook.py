import random

import numpy as np
import pytest
import torch

from mmselfsup_invp.engine import SelfLabelHook
from mmselfsup_invp.engine.hooks import self_label_hook
from mmselfsup_invp.evaluation import cluster_agreement, collect_features, extract_features
from mmselfsup_invp.memory import NonFiniteFeatures
from mmselfsup_invp.ops import relabel_iterations, relabel_times, sinkhorn_labels

from .. import toy
from .processes import OPTIONS, run_ranks
from .recording import Watch, ids_of, log_text, scalars

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
    """Keeps the labels as every step uses them, and what the network was before the events."""

    def __init__(self):
        self.seen, self.states = [], []
        self.hooks = [
            Watch('before_train_iter', self.before, priority='VERY_HIGH'),
            Watch('before_train_iter', self.after, priority='LOWEST'),
        ]

    def before(self, runner, **_):
        state = {name: value.clone() for name, value in runner.model.state_dict().items()}
        self.states.append(state)

    def after(self, runner, **_):
        self.seen.append(runner.model.memory.labels.clone())


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


class TestEvents:
    def test_labels_equal_those_of_the_network_in_evaluation_mode(self, images, tmp_path):
        labels = Labels()
        train(images, tmp_path, *labels.hooks, hook=eval_mode(images))
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

    def test_training_mode_is_put_back_and_has_moved_the_statistics(self, images, tmp_path):
        labels, modes = Labels(), []
        mode = Watch('before_train_iter', lambda r, **_: modes.append(r.model.training))
        after = []
        state = Watch(
            'before_train_iter',
            lambda r, **_: after.append(r.model.backbone.bn1.running_mean.clone()),
        )
        train(images, tmp_path, *labels.hooks, mode, state, epochs=1)
        assert modes == [True] * 3
        assert not torch.equal(labels.states[0]['backbone.bn1.running_mean'], after[0])

    def test_evaluation_mode_leaves_the_statistics_and_the_mode(self, images, tmp_path):
        labels, after, modes = Labels(), [], []
        mode = Watch('before_train_iter', lambda r, **_: modes.append(r.model.training))
        state = Watch(
            'before_train_iter',
            lambda r, **_: after.append(r.model.backbone.bn1.running_mean.clone()),
        )
        train(images, tmp_path, *labels.hooks, mode, state, epochs=1, hook=eval_mode(images))
        assert torch.equal(labels.states[0]['backbone.bn1.running_mean'], after[0])
        assert not torch.equal(*after[:2])
        assert modes == [True] * 3

    def test_in_training_mode_images_are_augmented_and_features_dropped(self, images, tmp_path):
        """Both are drawn, so two events with the same network differ."""
        runner = runner_of(images, tmp_path, model=DROPOUT)
        hook, found = label_hook(runner), []

        def collect(runner):
            runner.model.train()
            found.extend(hook._features(runner, event) for event in (0, 0, 1))

        runner.register_hook(Watch('before_train_epoch', collect))
        runner.train()
        # But for the running statistics, which training mode does not read, they are alike.
        torch.testing.assert_close(found[0], found[1])
        assert not torch.allclose(found[0], found[2])

    @pytest.mark.parametrize('storage', ['features', 'host'])
    def test_storage_does_not_change_the_labels(self, images, tmp_path, storage, monkeypatch):
        monkeypatch.setattr(self_label_hook, 'default_elements', lambda device: 15)
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

    def test_a_loader_of_ones_own(self, images, tmp_path):
        runner = runner_of(images, tmp_path)
        hook = label_hook(runner)
        runner.call_hook('before_run')
        own = hook._loader(runner)
        assert own is hook._loader(runner) and own is not runner.train_dataloader
        assert own.dataset is not runner.train_dataloader.dataset


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

    @pytest.mark.parametrize('num_workers', [0, 2])
    def test_a_resumed_run_equals_the_uninterrupted_one(self, images, tmp_path, num_workers):
        loader = toy.loader(images, views=toy.VIEWS, num_workers=num_workers)
        options = dict(
            model=DROPOUT,
            # As if the first half knew how long the run will be.
            hook=dict(num_events=7, schedule_epochs=4),
            train_dataloader=loader,
            **SAVE,
        )
        straight = train(images, tmp_path / 'straight', epochs=4, **options)
        half = train(images, tmp_path / 'resumed', epochs=2, **options)
        resumed = train(images, tmp_path / 'resumed', epochs=4, resume=True, **options)
        assert resumed.iter == straight.iter == 12
        first, second = straight.model.state_dict(), resumed.model.state_dict()
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
        assert not torch.equal(half.model.memory.labels, first['memory.labels'])

    def test_nothing_depends_on_the_number_of_workers(self, images, tmp_path):
        states = []
        for num_workers in (0, 2):
            loader = toy.loader(images, views=toy.VIEWS, num_workers=num_workers)
            options = dict(model=DROPOUT, train_dataloader=loader)
            runner = train(images, tmp_path / str(num_workers), **options)
            states.append(runner.model.state_dict())
        for name, value in states[0].items():
            assert torch.equal(value, states[1][name]), name


class TestLog:
    def test_figures_after_every_event(self, images, tmp_path):
        labels = Labels()
        train(images, tmp_path, *labels.hooks, hook=eval_mode(images))
        figures = scalars(tmp_path, 'sela')
        assert list(figures) == [0, 2, 4, 5]
        truth = torch.tensor([i % 3 for i in range(24)])
        for step, found in figures.items():
            state, label = labels.states[step], labels.seen[step]
            _, infos = evaluated_labels(images, state)
            sizes = torch.stack([column.bincount(minlength=3) for column in label.T])
            changed = (label != state['memory.labels']).float().mean().item()
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
        text = log_text(tmp_path)
        assert 'Labelled 24 images anew' in text and 'Iter(sela) [5]  change_ratio' in text

    @pytest.mark.parametrize('ann_file', toy.NOT_ONE_LABEL)
    def test_without_true_labels(self, images, tmp_path, ann_file):
        loader = toy.loader(images, views=toy.VIEWS, ann_file=ann_file)
        train(images, tmp_path, epochs=1, train_dataloader=loader)
        (first, *_) = scalars(tmp_path, 'sela').values()
        assert 'sela/cost' in first and not {'sela/nmi', 'sela/ari'} & set(first)

    def test_too_few_passes_are_warned_of(self, images, tmp_path):
        train(images, tmp_path, epochs=1, hook=dict(max_iter=1, tol=1e-9, lambd=25.0))
        message = '2 of 2 heads were not solved to tol = 1e-09 in 1 passes'
        assert message in log_text(tmp_path)

    def test_knn_of_the_backbone_works_beside_it(self, images, tmp_path):
        knn = dict(
            type='KNNEvalHook',
            gallery='backbone',
            query_dataloader=toy.loader(images, 'test'),
            gallery_dataloader=toy.loader(images, 'train'),
            k=5,
        )
        runner = runner_of(images, tmp_path)
        runner.register_hook(knn)
        runner.train()
        assert [list(step) for step in scalars(tmp_path, 'knn').values()] == [
            ['knn/backbone_k5_t0.07']
        ] * 2


class TestErrors:
    def test_there_is_no_bank_to_evaluate(self, images, tmp_path):
        runner = runner_of(images, tmp_path, epochs=1)
        loader = toy.loader(images, 'test')
        runner.register_hook(dict(type='KNNEvalHook', gallery='bank', query_dataloader=loader))
        with pytest.raises(ValueError, match="SelfLabelMemory has none. Use gallery='backbone'"):
            runner.train()

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(num_events=1), 'num_events = 1 is outside'),
            (dict(spacing='cubic'), "spacing = 'cubic' is unknown; valid: 'power', 'linear'"),
            (dict(heads='one'), "heads = 'one' is unknown; valid: 'all', 'rotate'"),
            (dict(relabel_mode='test'), "relabel_mode = 'test' is unknown; valid: 'train', 'eval'"),
            (dict(relabel_mode='eval'), "relabel_mode='eval' needs relabel_dataloader"),
            (dict(criterion='strict'), "criterion = 'strict' is unknown"),
            (dict(check_interval=0), 'check_interval = 0 is outside'),
            (dict(storage='disk'), "storage = 'disk' is unknown; valid: 'log_prob', 'features'"),
        ],
    )
    def test_wrong_options_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            SelfLabelHook(**options)

    def test_fewer_images_than_classes(self, images, tmp_path):
        many = dict(num_classes=25)
        message = 'num_classes = 25 is outside the valid range 1 to 24: 24 images cannot fill more'
        with pytest.raises(ValueError, match=message):
            train(images, tmp_path, model=dict(head=many, memory=many))

    def test_another_model(self, images, tmp_path):
        runner = toy.build_runner(images, tmp_path, custom_hooks=hooks())
        with pytest.raises(TypeError, match='needs the model SeLa, found InvP'):
            runner.train()

    def test_another_loop(self, images, tmp_path):
        runner = runner_of(images, tmp_path)
        runner._train_loop = runner.build_train_loop(dict(type='IterBasedTrainLoop', max_iters=2))
        with pytest.raises(TypeError, match='counts epochs, which IterBasedTrainLoop does not'):
            runner.call_hook('before_run')

    def test_a_loader_that_leaves_images_out(self, images, tmp_path):
        loader = toy.loader(images, 'train', batch_size=5)
        loader['drop_last'] = True
        with pytest.raises(ValueError, match='leaves out 4 of 24 images'):
            train(images, tmp_path, hook=dict(relabel_mode='eval', relabel_dataloader=loader))

    def test_ids_outside_the_data_set(self, images, tmp_path):
        runner = runner_of(images, tmp_path)
        hook = label_hook(runner)
        runner.call_hook('before_run')
        with pytest.raises(ValueError, match='sample_idx 24 is outside 0 to 23'):
            hook.before_train_iter(runner, 0, dict(data_samples=toy.samples(3, 24)))

    def test_features_that_are_not_finite(self, images, tmp_path):
        def spoil(runner, **_):
            runner.model.backbone.conv1.weight.data[0, 0, 0, 0] = torch.nan

        watch = Watch('before_train_epoch', spoil)
        with pytest.raises(ValueError, match='hold NaN or Inf.*diverged'):
            train(images, tmp_path, watch)

    @pytest.mark.parametrize('check_interval', [1, 50])
    def test_features_of_a_step_that_are_not_finite(self, images, tmp_path, check_interval):
        """Seen at the next look, or before labels are made of them: there is an event at 2."""
        steps = []

        def spoil(runner, **_):
            steps.append(runner.iter)
            if runner.iter == 1:
                runner.model.backbone.conv1.weight.data.fill_(torch.nan)

        watch = Watch('before_train_iter', spoil)
        with pytest.raises(NonFiniteFeatures, match='NaN or Inf in iteration 2, first for the'):
            train(images, tmp_path, watch, hook=dict(check_interval=check_interval))
        assert steps == [0, 1]


# ---- two processes ----

# Statistics of a batch play no part.
FROZEN = dict(backbone=dict(norm_eval=True))


def scenario(images, work_dir, hook, **changes):
    """Labels after every event, how often each image came, and the features of one pass."""
    seen, ids = [], []
    note = Watch(
        'before_train_iter',
        lambda r, data_batch, **_: (
            seen.append(getattr(r.model, 'module', r.model).memory.labels.clone()),
            ids.append(ids_of(data_batch)),
        ),
    )
    runner = train(images, work_dir, note, epochs=2, hook=hook, **changes)
    loader = toy.build_loader(toy.loader(images, 'train', batch_size=4))
    feature = collect_features(runner.model, loader, embed, training=False)
    expected = extract_features(runner.model, loader, embed)
    return dict(labels=seen, ids=ids, feature=feature, expected=expected)


def embed(model, inputs):
    return model.embed(inputs[0])


def scenarios(folder, odd):
    options = dict(**OPTIONS, train_dataloader=toy.loader(odd, views=toy.VIEWS, batch_size=4))
    return dict(
        train=scenario(odd, folder / 'train', {}, model=DROPOUT, **options),
        eval=scenario(odd, folder / 'eval', eval_mode(odd), model=FROZEN, **options),
    )


@pytest.fixture(scope='module')
def odd_images(tmp_path_factory):
    """21 images: on 2 processes one of them is repeated to come out even."""
    return toy.image_folder(tmp_path_factory.mktemp('odd') / 'images', images=21)


@pytest.fixture(scope='module')
def ranks(odd_images, tmp_path_factory):
    return run_ranks(scenarios, tmp_path_factory.mktemp('ranks'), odd_images)


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_labels_are_the_same_on_every_rank(ranks, mode):
    runs = [rank[mode] for rank in ranks]
    assert len(runs[0]['labels']) == 6
    for one, other in zip(*(run['labels'] for run in runs), strict=True):
        assert torch.equal(one, other) and one.shape == (21, 2)
    assert not torch.equal(runs[0]['labels'][0], runs[0]['labels'][-1])
    for one, other in zip(*(run['ids'] for run in runs), strict=True):
        assert len(set(one.tolist()) & set(other.tolist())) <= 1  # The image that pads.


def test_features_are_collected_on_the_main_process_alone(ranks):
    found = ranks[0]['eval']
    assert found['feature'].shape == (21, 16)
    torch.testing.assert_close(found['feature'], found['expected'])
    assert ranks[1]['eval']['feature'] is None


def test_labels_of_two_ranks_equal_those_of_one(ranks, odd_images, tmp_path):
    """The first event, before rounding in the training steps sets the networks apart."""
    single = scenario(
        odd_images,
        tmp_path,
        eval_mode(odd_images),
        model=FROZEN,
        train_dataloader=toy.loader(odd_images, views=toy.VIEWS, batch_size=8),
    )
    assert torch.equal(single['labels'][0], ranks[0]['eval']['labels'][0])
