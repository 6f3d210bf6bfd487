import math
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.engine.hooks import PropagationMemoryHook
from mmselfsup_invp.evaluation import GraphHealth

from .. import toy
from .methods import changes
from .recording import Steps, Watch, log_text, scalars

SAVE = dict(default_hooks=dict(checkpoint=dict(interval=1)))


def train(images, work_dir, *others, epochs=2, hook=None, **config):
    """Train InvP with the hook's options and further hooks; return the runner."""
    runner = toy.build_runner(
        images, work_dir, epochs, **{**changes('InvP', images, **(hook or {})), **config}
    )
    for other in others:
        runner.register_hook(other)
    runner.train()
    return runner


def model_of(**config):
    return toy.merged(toy.model_config(), config)


def nearest_others(query, bank, ids, k=2):
    similarity = query.double() @ bank.double().T
    similarity[torch.arange(len(ids)), ids] = -9
    return similarity.topk(k, dim=1).indices


@pytest.fixture(scope='module')
def run(images, tmp_path_factory):
    """Five recorded epochs of three batches each."""
    folder, steps = tmp_path_factory.mktemp('run'), Steps()
    runner = train(images, folder, steps, epochs=5, model=model_of(memory=dict(momentum=0.8)))
    return SimpleNamespace(
        folder=folder,
        steps=steps,
        memory=runner.model.memory,
        graph=scalars(folder, 'graph'),
        log=log_text(folder),
    )


class TestUpdate:
    def test_rows_and_graph_equal_a_hand_computation(self, run):
        steps = run.steps
        assert len(steps.ids) == 15
        bank, neighbours = steps.before[0]['bank'], steps.before[0]['neighbours'].clone()
        assert (neighbours == -1).all()
        for ids, query, after in zip(steps.ids, steps.query, steps.after, strict=True):
            bank, neighbours = bank.clone(), neighbours.clone()
            neighbours[ids] = nearest_others(query, bank, ids)
            bank[ids] = F.normalize(0.8 * bank[ids] + 0.2 * query)
            torch.testing.assert_close(after['bank'], bank)
            assert torch.equal(after['neighbours'].sort(1)[0], neighbours.sort(1)[0])
            bank, neighbours = after['bank'], after['neighbours']
        assert (neighbours >= 0).all()

    def test_the_memory_is_committed_after_the_optimiser_step(self, run):
        steps = run.steps
        for before, at_step, after in zip(steps.before, steps.at_step, steps.after, strict=True):
            assert not torch.equal(at_step['weight'], before['weight'])
            for name in ('bank', 'neighbours'):
                assert torch.equal(at_step[name], before[name])
                assert not torch.equal(after[name], before[name])

    def test_epoch_update(self, images, tmp_path):
        steps, ends = Steps(), []
        end = Watch('after_train_epoch', lambda r: ends.append(r.model.memory.bank.clone()))
        model = model_of(memory=dict(update='epoch'))
        runner = train(images, tmp_path, steps, end, model=model, **SAVE)
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
        # The checkpoint of an epoch contains the rows of its last batch too.
        saved = torch.load(tmp_path / 'epoch_2.pth')['state_dict']
        for name, value in runner.model.memory.state_dict().items():
            assert torch.equal(saved[f'memory.{name}'], value)
        assert torch.equal(saved['memory.bank'], bank)


class TestGraph:
    @pytest.mark.parametrize('initial_graph', ['empty', 'knn'])
    @pytest.mark.parametrize('refresh', ['iteration', 'epoch'])
    def test_initial_graph_and_refresh(self, images, tmp_path, initial_graph, refresh):
        steps = Steps()
        hook = dict(initial_graph=initial_graph, refresh=refresh)
        train(images, tmp_path, steps, hook=hook)
        for epoch in range(2):
            start = steps.before[3 * epoch]
            expected = nearest_others(start['bank'], start['bank'], torch.arange(24))
            if epoch == 0 and initial_graph == 'empty':
                expected = torch.full((24, 2), -1)
            if epoch == 0 or refresh == 'epoch':
                assert torch.equal(start['neighbours'], expected)
            during = range(3 * epoch, 3 * epoch + 3)
            same = [torch.equal(steps.after[i]['neighbours'], expected) for i in during]
            assert same == [refresh == 'epoch'] * 3

    def test_a_graph_from_a_checkpoint_is_kept(self, images, tmp_path):
        first = train(images, tmp_path, epochs=1, **SAVE)
        steps = Steps()
        train(images, tmp_path, steps, hook=dict(initial_graph='knn'), resume=True, **SAVE)
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

    @pytest.mark.parametrize('share', [0.3, 0.6])
    def test_it_starts_at_a_share_of_mutual_edges(self, images, tmp_path, share):
        shares, weights = [], []

        def note(runner, **_):
            graph = runner.model.memory.neighbours.tolist()
            edges = [(row, end) for row, ends in enumerate(graph) for end in ends if end >= 0]
            shares.append(sum(row in graph[end] for row, end in edges) / max(len(edges), 1))
            weights.append(runner.model.head.ramp)

        watch = Watch('before_train_epoch', note)
        train(images, tmp_path, watch, epochs=5, hook=dict(mutual_share=share))
        assert weights == [float(one >= share) for one in shares]
        assert weights[0] == 0

    def test_a_resumed_run_has_the_weight_of_its_epoch(self, images, tmp_path):
        config = dict(hook=dict(ramp='binary', ramp_epochs=2), **SAVE)
        train(images, tmp_path, epochs=2, **config)
        seen = []
        watch = Watch('before_train_iter', lambda r, **_: seen.append(r.model.head.ramp))
        train(images, tmp_path, watch, epochs=3, resume=True, **config)
        assert seen == [1.0] * 3


class TestHealth:
    NAMES = (
        *('unfilled', 'largest_in_degree', 'mean_norm', 'num_components'),
        *('largest_component', 'mutual_share', 'edge_churn', 'purity_hop1', 'purity_hop2'),
    )

    def test_metrics_are_logged_every_epoch(self, run):
        assert list(run.graph) == [1, 2, 3, 4, 5]
        # Edges cannot change before they exist.
        names = {f'graph/{name}' for name in self.NAMES}
        assert set(run.graph[1]) == names - {'graph/edge_churn'} and set(run.graph[5]) == names
        mean_norm = run.memory.bank.mean(0).norm().item()
        assert run.graph[5]['graph/mean_norm'] == pytest.approx(mean_norm)
        for epoch, metrics in run.graph.items():
            (line,) = re.findall(rf'Epoch\(graph\) \[{epoch}\]  (.*)', run.log)
            for name, value in metrics.items():
                assert f'{name.removeprefix("graph/")}: {value:.4g}' in line

    def test_purity_equals_a_loop(self, run):
        neighbours = run.memory.neighbours.tolist()
        pure, total = [0, 0], [0, 0]
        for anchor in range(24):
            one = set(neighbours[anchor])
            two = one | {other for row in one for other in neighbours[row]}
            for hop, reached in enumerate((one, two)):
                reached = reached - {anchor}
                pure[hop] += sum(other % 3 == anchor % 3 for other in reached)
                total[hop] += len(reached)
        for hop in range(2):
            expected = pytest.approx(100 * pure[hop] / total[hop])
            assert run.graph[5][f'graph/purity_hop{hop + 1}'] == expected

    def test_churn_is_the_share_of_edges_that_changed_in_the_epoch(self, run):
        seen = set()
        ends = [run.steps.after[3 * epoch - 1]['neighbours'].tolist() for epoch in range(1, 6)]
        for epoch, (old, new) in enumerate(zip(ends, ends[1:], strict=False), start=2):
            changed = sum(len(set(b) - set(a)) for a, b in zip(old, new, strict=True))
            seen.add(changed)
            assert run.graph[epoch]['graph/edge_churn'] == pytest.approx(changed / 48)
        assert len(seen) > 1

    def test_purity_of_some_anchors_at_an_interval(self, images, tmp_path):
        hook = dict(health_anchors=2, health_interval=2)
        memory = train(images, tmp_path, hook=hook).model.memory
        graph = scalars(tmp_path, 'graph')
        assert list(graph) == [2]
        ends = memory.neighbours[[0, 23]] % 3
        same = (ends == torch.tensor([[0 % 3], [23 % 3]])).sum().item()
        assert graph[2]['graph/purity_hop1'] == pytest.approx(100 * same / 4)

    def test_an_interval_of_0_disables_the_log(self, images, tmp_path):
        train(images, tmp_path, epochs=1, hook=dict(health_interval=0))
        assert not scalars(tmp_path, 'graph')

    @pytest.mark.parametrize('ann_file', toy.NOT_ONE_LABEL)
    def test_without_labels_there_is_no_purity(self, images, tmp_path, ann_file):
        loader = toy.loader(images, views=toy.VIEWS, ann_file=ann_file)
        train(images, tmp_path, epochs=1, train_dataloader=loader)
        metrics = scalars(tmp_path, 'graph')[1]
        assert set(metrics) == {f'graph/{name}' for name in self.NAMES[:6]}

    @pytest.mark.parametrize(('ramp_epochs', 'warned'), [(0, True), (1, False)])
    def test_warnings_of_the_graph_wait_for_the_ramp(
        self, images, tmp_path, monkeypatch, ramp_epochs, warned
    ):
        monkeypatch.setattr(GraphHealth, 'warnings', lambda self: ['a hub'])
        hook = dict(ramp='binary', ramp_epochs=ramp_epochs)
        train(images, tmp_path, epochs=1, hook=hook)
        assert ('WARNING - graph: a hub' in log_text(tmp_path)) == warned


class TestLimits:
    @pytest.mark.parametrize(
        ('head', 'expected'),
        [
            (
                dict(loss=dict(num_background=4096, num_hard=50)),
                [
                    'num_background = 4096 is lowered to 23, the other rows of a bank of 24.',
                    # 2 neighbours and 4 of theirs.
                    'num_hard = 50 is lowered to 6, the positives an image can have.',
                ],
            ),
            (
                dict(positive='knn', knn_k=50, loss=dict(num_hard=30)),
                [
                    'knn_k = 50 is lowered to 23, the other rows of a bank of 24.',
                    'num_hard = 30 is lowered to 23, the positives an image can have.',
                ],
            ),
            ({}, []),
        ],
    )
    def test_limited_settings_are_named(self, images, tmp_path, head, expected):
        train(images, tmp_path, epochs=1, model=model_of(head=head))
        assert re.findall('WARNING - (.* is lowered .*)', log_text(tmp_path)) == expected


class TestMomentum:
    @pytest.mark.parametrize(('length', 'rows'), [(20, 20), (65536, 24)])
    def test_a_run_on_the_queue(self, images, tmp_path, length, rows):
        config = changes('MomentumInvP', images)
        config['model'] = toy.merged(config['model'], dict(memory=dict(length=length)))
        memory = train(images, tmp_path, epochs=3, **config).model.memory
        assert memory.bank.shape == (rows, toy.DIM)
        assert memory.state_dict()['pointer'] == 3 * 24 % rows
        torch.testing.assert_close(memory.bank.norm(dim=1), torch.ones(rows))
        graph = scalars(tmp_path, 'graph')
        unfilled = (memory.neighbours < 0).all(dim=1).float().mean().item()
        assert graph[3]['graph/unfilled'] == pytest.approx(unfilled)
        # A slot is not an image: there are no labels to compare it with.
        assert not any('purity' in name for name in graph[3])
        lowered = 'queue of 65536 is lowered to the 24 images' in log_text(tmp_path)
        assert lowered == (length > 24)


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('ramp', 'linear'),
        ('ramp_epochs', -1),
        ('initial_graph', 'full'),
        ('refresh', 'never'),
        ('health_anchors', 0),
        ('mutual_share', 2),
    ],
)
def test_wrong_options_are_named(option, value):
    with pytest.raises(ValueError, match=f'{option} = {value!r} is not valid'):
        PropagationMemoryHook(**{option: value})
