import math
import re

import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmselfsup.registry import TRANSFORMS

from mmselfsup_invp.engine.hooks import PropagationMemoryHook
from mmselfsup_invp.memory import NonFiniteFeatures

from .. import toy
from .recording import Steps, Watch, ids_of, log_text, scalars


def hooks(*others, **options):
    options = {'ramp': 'constant', **options}
    return [dict(type='EpochSeedHook'), dict(type='PropagationMemoryHook', **options), *others]


def train(images, work_dir, *others, epochs=2, hook=None, **changes):
    """Train with the hook's options and further hooks; give the runner back."""
    runner = toy.build_runner(images, work_dir, epochs, custom_hooks=hooks(**hook or {}), **changes)
    for other in others:
        runner.register_hook(other)
    runner.train()
    return runner


def nearest_others(query, bank, ids, k=2):
    similarity = query.double() @ bank.double().T
    similarity[torch.arange(len(ids)), ids] = -9
    return similarity.topk(k, dim=1).indices


class TestUpdate:
    def test_rows_and_graph_equal_a_hand_computation(self, images, tmp_path):
        steps = Steps()
        train(images, tmp_path, steps, model=dict(memory=dict(momentum=0.8)))
        assert len(steps.ids) == 6  # 2 epochs of 24 images in batches of 8.
        bank, neighbours = steps.before[0]['bank'], steps.before[0]['neighbours']
        assert (neighbours == -1).all()
        for ids, query, after in zip(steps.ids, steps.query, steps.after, strict=True):
            neighbours[ids] = nearest_others(query, bank, ids)
            bank[ids] = F.normalize(0.8 * bank[ids] + 0.2 * query)
            torch.testing.assert_close(after['bank'], bank)
            assert torch.equal(after['neighbours'].sort(1)[0], neighbours.sort(1)[0])
            bank, neighbours = after['bank'], after['neighbours']
        assert (neighbours >= 0).all()

    def test_the_bank_waits_for_the_step(self, images, tmp_path):
        """It is written after it, with the feature computed before it."""
        steps = Steps()
        train(images, tmp_path, steps, epochs=1)
        for before, at_step, after in zip(steps.before, steps.at_step, steps.after, strict=True):
            assert not torch.equal(at_step['weight'], before['weight'])
            for name in ('bank', 'neighbours'):
                assert torch.equal(at_step[name], before[name])
                assert not torch.equal(after[name], before[name])

    def test_epoch_update(self, images, tmp_path):
        steps, ends = Steps(), []
        end = Watch('after_train_epoch', lambda r: ends.append(r.model.memory.bank.clone()))
        train(images, tmp_path, steps, end, model=dict(memory=dict(update='epoch')))
        bank = steps.before[0]['bank']
        for epoch in range(2):
            during = range(3 * epoch, 3 * epoch + 3)
            assert all(torch.equal(steps.after[i]['bank'], bank) for i in during)
            expected = bank.clone()
            for i in during:
                ids = steps.ids[i]
                expected[ids] = F.normalize(0.5 * bank[ids] + 0.5 * steps.query[i])
            torch.testing.assert_close(ends[epoch], expected)
            bank = ends[epoch]

    def test_a_checkpoint_holds_the_rows_of_the_whole_epoch(self, images, tmp_path):
        runner = train(
            images,
            tmp_path,
            epochs=1,
            model=dict(memory=dict(update='epoch')),
            default_hooks=dict(checkpoint=dict(interval=1)),
        )
        state = torch.load(tmp_path / 'epoch_1.pth')['state_dict']
        for name in ('bank', 'neighbours', 'next_bank'):
            assert torch.equal(state[f'memory.{name}'], runner.model.memory.state_dict()[name])
        assert torch.equal(state['memory.bank'], state['memory.next_bank'])


class TestGraph:
    def graphs(self, images, work_dir, **hook):
        steps = Steps()
        train(images, work_dir, steps, hook=hook)
        return steps

    def test_may_start_as_that_of_the_initial_bank(self, images, tmp_path):
        first = self.graphs(images, tmp_path, initial_graph='knn').before[0]
        expected = nearest_others(first['bank'], first['bank'], torch.arange(24))
        assert torch.equal(first['neighbours'], expected)

    @pytest.mark.parametrize('initial_graph', ['empty', 'knn'])
    def test_may_be_rebuilt_before_every_epoch(self, images, tmp_path, initial_graph):
        steps = self.graphs(images, tmp_path, refresh='epoch', initial_graph=initial_graph)
        for epoch in range(2):
            start = steps.before[3 * epoch]
            expected = nearest_others(start['bank'], start['bank'], torch.arange(24))
            if epoch == 0 and initial_graph == 'empty':
                expected = torch.full((24, 2), -1)
            for step in range(3 * epoch, 3 * epoch + 3):
                assert torch.equal(steps.before[step]['neighbours'], expected)
                assert torch.equal(steps.after[step]['neighbours'], expected)

    def test_a_graph_from_a_checkpoint_is_kept(self, images, tmp_path):
        changes = dict(default_hooks=dict(checkpoint=dict(interval=1)))
        first = train(images, tmp_path, epochs=1, **changes)
        steps = Steps()
        train(images, tmp_path, steps, hook=dict(initial_graph='knn'), resume=True, **changes)
        assert torch.equal(steps.before[0]['neighbours'], first.model.memory.neighbours)


class TestRamp:
    GAUSSIAN = [math.exp(-5 * (1 - 1 / 2) ** 2), 1.0, 1.0]

    @pytest.mark.parametrize(
        ('ramp', 'expected'),
        [('binary', [0.0, 0.0, 1.0]), ('gaussian', GAUSSIAN), ('constant', [1.0, 1.0, 1.0])],
    )
    def test_weight_of_each_epoch(self, images, tmp_path, ramp, expected):
        """Epochs count from 1: with a ramp of 2, the third is the first with full weight."""
        seen, losses = [], []
        train(
            images,
            tmp_path,
            Watch('before_train_iter', lambda r, **_: seen.append(r.model.head.ramp)),
            Watch('after_train_iter', lambda r, outputs, **_: losses.append(outputs['loss_inv'])),
            epochs=3,
            hook=dict(ramp=ramp, ramp_epochs=2, initial_graph='knn'),
        )
        assert seen == pytest.approx([weight for weight in expected for _ in range(3)])
        assert [bool(loss) for loss in losses] == [bool(weight) for weight in seen]

    def test_is_right_again_after_resuming(self, images, tmp_path):
        changes = dict(
            hook=dict(ramp='binary', ramp_epochs=2),
            default_hooks=dict(checkpoint=dict(interval=1)),
        )
        train(images, tmp_path, epochs=2, **changes)
        seen = []
        watch = Watch('before_train_iter', lambda r, **_: seen.append(r.model.head.ramp))
        train(images, tmp_path, watch, epochs=3, resume=True, **changes)
        assert seen == [1.0] * 3


class TestHealth:
    NAMES = (
        *('unfilled', 'largest_in_degree', 'mean_norm', 'num_components'),
        *('largest_component', 'edge_churn', 'purity_hop1', 'purity_hop2'),
    )

    def test_figures_are_logged_every_epoch(self, images, tmp_path):
        memory = train(images, tmp_path).model.memory
        figures = scalars(tmp_path, 'graph')
        assert list(figures) == [1, 2]
        # Edges cannot change before they exist.
        assert set(figures[1]) == {f'graph/{name}' for name in self.NAMES if name != 'edge_churn'}
        assert set(figures[2]) == {f'graph/{name}' for name in self.NAMES}
        assert figures[2]['graph/mean_norm'] == pytest.approx(memory.bank.mean(0).norm().item())
        text = log_text(tmp_path)
        for epoch in (1, 2):
            (line,) = re.findall(rf'Epoch\(graph\) \[{epoch}\]  (.*)', text)
            for name in self.NAMES[: None if epoch == 2 else 5]:
                assert f'{name}: {figures[epoch][f"graph/{name}"]:.4g}' in line

    def test_purity_equals_a_loop(self, images, tmp_path):
        neighbours = train(images, tmp_path, epochs=1).model.memory.neighbours.tolist()
        pure, total = [0, 0], [0, 0]
        for anchor in range(24):
            one = set(neighbours[anchor])
            two = one | {other for row in one for other in neighbours[row]}
            for hop, reached in enumerate((one, two)):
                reached = reached - {anchor}
                pure[hop] += sum(other % 3 == anchor % 3 for other in reached)
                total[hop] += len(reached)
        figures = scalars(tmp_path, 'graph')[1]
        for hop in range(2):
            assert figures[f'graph/purity_hop{hop + 1}'] == pytest.approx(
                100 * pure[hop] / total[hop]
            )

    def test_purity_of_some_anchors(self, images, tmp_path):
        memory = train(images, tmp_path, epochs=1, hook=dict(health_anchors=2)).model.memory
        same = [
            other % 3 == anchor % 3 for anchor in (0, 23) for other in memory.neighbours[anchor]
        ]
        figure = scalars(tmp_path, 'graph')[1]['graph/purity_hop1']
        assert figure == pytest.approx(100 * sum(map(bool, same)) / 4)

    def test_churn_is_the_share_of_edges_rewritten(self, images, tmp_path):
        """In the epoch, not since the start."""
        steps = Steps()
        train(images, tmp_path, steps, epochs=5)
        figures, seen = scalars(tmp_path, 'graph'), set()
        for epoch in range(2, 6):
            old, new = (steps.after[3 * e - 1]['neighbours'].tolist() for e in (epoch - 1, epoch))
            changed = sum(len(set(b) - set(a)) for a, b in zip(old, new, strict=True))
            seen.add(changed)
            assert figures[epoch]['graph/edge_churn'] == pytest.approx(changed / 48)
        assert len(seen) > 1

    @pytest.mark.parametrize(('interval', 'epochs'), [(0, []), (2, [2])])
    def test_interval(self, images, tmp_path, interval, epochs):
        train(images, tmp_path, epochs=3, hook=dict(health_interval=interval))
        assert list(scalars(tmp_path, 'graph')) == epochs

    @pytest.mark.parametrize('ann_file', toy.NOT_ONE_LABEL)
    def test_without_labels_there_is_no_purity(self, images, tmp_path, ann_file):
        loader = toy.loader(images, views=toy.VIEWS, ann_file=ann_file)
        train(images, tmp_path, epochs=1, train_dataloader=loader)
        figures = scalars(tmp_path, 'graph')[1]
        assert set(figures) == {f'graph/{name}' for name in self.NAMES[:5]}

    def collapsed(self, images, work_dir, **hook):
        """Warnings by epoch of a network whose features are all the same."""

        def collapse(runner):
            runner.model.neck.output.weight.data.zero_()
            runner.model.neck.output.bias.data.fill_(1.0)

        train(
            images,
            work_dir,
            Watch('before_train', collapse),
            hook=hook,
            model=dict(memory=dict(momentum=0.0)),
            optim_wrapper=dict(optimizer=dict(lr=0.0)),
        )
        assert scalars(work_dir, 'graph')[1]['graph/mean_norm'] == pytest.approx(1)
        parts = log_text(work_dir).split('Epoch(graph)')[1:]
        return [re.findall(r'WARNING - graph: (.*)', part) for part in parts]

    def test_a_collapse_is_told_with_the_knob(self, images, tmp_path):
        first, second = self.collapsed(images, tmp_path)
        (told,) = first
        assert 'collapsed (mean norm 1.00)' in told and 'learning rate' in told
        assert not second  # The host's logger does not repeat itself.

    def test_no_warning_while_nobody_walks_the_graph(self, images, tmp_path):
        """The features of an untrained network are close together: no news."""
        first, second = self.collapsed(images, tmp_path, ramp='binary', ramp_epochs=1)
        assert not first and second


class TestLimits:
    def test_lowered_settings_are_told(self, images, tmp_path):
        head = dict(loss=dict(num_background=4096, num_hard=50))
        train(images, tmp_path, epochs=1, model=dict(head=head))
        text = log_text(tmp_path)
        assert 'num_background = 4096 is lowered to 23, the other rows of a bank of 24' in text
        # 2 neighbours and 4 of theirs.
        assert 'num_hard = 50 is lowered to 6, the positives an image can have' in text
        assert 'knn_k' not in text.split('Epoch(train)')[0].split('WARNING')[-1]

    def test_nearest_as_positives(self, images, tmp_path):
        head = dict(positive='knn', knn_k=50, loss=dict(num_hard=30))
        train(images, tmp_path, epochs=1, model=dict(head=head))
        text = log_text(tmp_path)
        assert 'knn_k = 50 is lowered to 23' in text and 'num_hard = 30 is lowered to 23' in text

    def test_nothing_is_told_where_nothing_is_lowered(self, images, tmp_path):
        train(images, tmp_path, epochs=1)
        assert 'is lowered' not in log_text(tmp_path)


@TRANSFORMS.register_module()
class ShiftIds(BaseTransform):
    """A pipeline that changes the ids."""

    def __init__(self, by):
        self.by = by

    def transform(self, results):
        results['sample_idx'] += self.by
        return results


class TestWrongData:
    @pytest.mark.parametrize(('by', 'named'), [(24, r'2[4-9]|3\d|4[0-7]'), (-24, r'-\d+')])
    def test_ids_outside_are_named(self, images, tmp_path, by, named):
        loader = toy.loader(images, views=toy.VIEWS)
        loader['dataset']['pipeline'].insert(2, dict(type='ShiftIds', by=by))
        message = rf'sample_idx ({named}) is outside 0 to 23, the images of the training data set'
        with pytest.raises(ValueError, match=message):
            train(images, tmp_path, train_dataloader=loader)

    def test_joined_data_sets_are_refused(self, images, tmp_path):
        loader = toy.loader(images, views=toy.VIEWS)
        joined = dict(type='ConcatDataset', datasets=[loader['dataset']] * 2)
        with pytest.raises(ValueError, match='ConcatDataset numbers the images of each part'):
            train(images, tmp_path, train_dataloader={**loader, 'dataset': joined})

    def test_repeated_data_sets_share_rows(self, images, tmp_path):
        loader = toy.loader(images, views=toy.VIEWS)
        repeated = dict(type='RepeatDataset', times=2, dataset=loader['dataset'])
        runner = train(images, tmp_path, epochs=1, train_dataloader={**loader, 'dataset': repeated})
        assert runner.iter == 6 and len(runner.model.memory) == 24

    def test_an_empty_data_set_is_refused(self, images, tmp_path):
        (tmp_path / 'none.txt').touch()
        loader = toy.loader(images, ann_file=str(tmp_path / 'none.txt'))
        loader['dataset'].update(type='mmcls.CustomDataset', serialize_data=True)
        with pytest.raises(ValueError, match='CustomDataset holds no image'):
            train(images, tmp_path / 'work', train_dataloader=loader)

    def test_missing_ids_are_for_the_algorithm_to_name(self, images, tmp_path):
        loader = toy.loader(images, views=toy.VIEWS)
        loader['dataset']['pipeline'][-1]['algorithm_keys'] = []
        with pytest.raises(ValueError, match='carry no sample_idx'):
            train(images, tmp_path, train_dataloader=loader)

    def test_a_model_without_a_memory_is_named(self, images, tmp_path):
        runner = toy.build_runner(images, tmp_path, custom_hooks=hooks())
        del runner.model.memory
        with pytest.raises(TypeError, match='needs a model with a memory, InvP has none'):
            runner.train()

    def test_a_loop_without_epochs_is_refused(self, images, tmp_path):
        loop = dict(type='IterBasedTrainLoop', max_iters=4)
        with pytest.raises(TypeError, match='counts epochs, which IterBasedTrainLoop does not'):
            train(images, tmp_path, train_cfg=loop, param_scheduler=None)

    def test_another_length_than_the_data_set_is_refused(self, images, tmp_path):
        with pytest.raises(ValueError, match='has 25 rows, the data set 24 images'):
            train(images, tmp_path, model=dict(memory=dict(length=25)))


class TestNonFiniteFeatures:
    def poison(self, at=4, position=2):
        """From neck on, the feature of one image of one batch is NaN; returns hook and its id."""
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

    @pytest.mark.parametrize(('interval', 'stops'), [(1, 4), (5, 5), (50, 6)])
    def test_stop_the_run_and_never_reach_the_checkpointed_bank(
        self, images, tmp_path, interval, stops
    ):
        watch, found = self.poison()
        checkpoint = dict(interval=1, by_epoch=False, save_optimizer=False)
        with pytest.raises(NonFiniteFeatures) as raised:
            train(
                images,
                tmp_path,
                watch,
                hook=dict(check_interval=interval),
                default_hooks=dict(checkpoint=checkpoint),
            )
        message = f'NaN or Inf in iteration 4, first for the samples [{found["id"]}]. '
        assert message in str(raised.value) and 'learning rate' in str(raised.value)
        saved = {int(path.stem[5:]) for path in tmp_path.glob('iter_*.pth')}
        # At the end of the epoch the last step was saved before the epoch's look.
        assert max(saved) == (6 if stops == 6 else stops - 1)
        for step in saved:
            state = torch.load(tmp_path / f'iter_{step}.pth')['state_dict']
            assert state['memory.bank'].isfinite().all()
            norms = state['memory.bank'].norm(dim=1)
            torch.testing.assert_close(norms, torch.ones(24))
            assert (step < 4) == state['backbone.conv1.weight'].isfinite().all()

    def test_the_bad_image_keeps_its_row_and_links(self, images, tmp_path):
        watch, found = self.poison()
        steps = Steps()
        with pytest.raises(NonFiniteFeatures):
            train(images, tmp_path, steps, watch, hook=dict(check_interval=50))
        bad = found['id']
        for name in ('bank', 'neighbours'):
            before, after = steps.before[3][name], steps.after[3][name]
            assert torch.equal(before[bad], after[bad])
            if name == 'bank':
                fine = [i for i in steps.ids[3].tolist() if i != bad]
                assert not (before[fine] == after[fine]).all(dim=1).any()
            # Afterwards the network is lost and gives nothing else.
            assert torch.equal(after, steps.after[5][name])


class TestMomentum:
    def test_a_run_on_the_queue(self, images, tmp_path):
        config = toy.model_config('MomentumInvP', memory=dict(length=20))
        loader = toy.loader(images, views=toy.VIEWS, num_views=2)
        runner = train(images, tmp_path, epochs=3, model=config, train_dataloader=loader)
        memory = runner.model.memory
        assert memory.pointer == 3 * 24 % 20
        torch.testing.assert_close(memory.bank.norm(dim=1), torch.ones(20))
        figures = scalars(tmp_path, 'graph')
        assert figures[3]['graph/unfilled'] == pytest.approx(
            (memory.neighbours < 0).all(dim=1).float().mean().item()
        )
        # A slot is no image: there is nothing to compare with labels.
        assert not any('purity' in name for name in figures[3])

    def test_a_queue_longer_than_the_data_set_is_lowered(self, images, tmp_path):
        config = toy.model_config('MomentumInvP', memory=dict(length=65536))
        loader = toy.loader(images, views=toy.VIEWS, num_views=2)
        runner = train(images, tmp_path, epochs=1, model=config, train_dataloader=loader)
        assert len(runner.model.memory) == 24
        assert 'queue of 65536 is lowered to the 24 images' in log_text(tmp_path)


def test_resuming_on_another_data_set_is_refused(images, tmp_path):
    changes = dict(default_hooks=dict(checkpoint=dict(interval=1)))
    train(images, tmp_path / 'work', epochs=1, **changes)
    fewer = toy.image_folder(tmp_path / 'fewer', images=21)
    message = r'holds memory.features.bank of shape \(24, 16\), this run has \(21, 16\)'
    with pytest.raises(ValueError, match=message):
        train(fewer, tmp_path / 'work', resume=True, **changes)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            dict(ramp='linear'),
            "ramp = 'linear' is unknown; valid: 'binary', 'gaussian', 'constant'",
        ),
        (dict(ramp_epochs=-1), 'ramp_epochs = -1 is outside .* 0 sets the full weight at once'),
        (dict(initial_graph='full'), "initial_graph = 'full' is unknown; valid: 'empty', 'knn'"),
        (dict(refresh='never'), "refresh = 'never' is unknown; valid: 'iteration', 'epoch'"),
        (dict(health_interval=-1), 'health_interval = -1 is outside .* 0 turns the look off'),
        (dict(health_anchors=0), 'health_anchors = 0 is outside'),
        (dict(check_interval=0), 'check_interval = 0 is outside'),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        PropagationMemoryHook(**option)
