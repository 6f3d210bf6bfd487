import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import load_checkpoint
from torch import nn

from mmselfsup_invp import ops
from mmselfsup_invp.models import PropagationMemory

from .. import toy


def memory_of(length=10, k=3, dim=4, **options):
    return PropagationMemory(length=length, num_neighbours=k, feat_dim=dim, **options)


def commit(memory, sample, feature, neighbours=None, **options):
    """Stage and commit a batch."""
    if neighbours is None:
        neighbours = torch.zeros(len(sample), memory.num_neighbours, dtype=torch.int64)
    memory.stage(torch.tensor(sample), feature, neighbours)
    memory.commit(**options)


class TestInitialRows:
    def test_unit_rows_are_unit_and_spread_evenly(self):
        memory = memory_of(length=4000, dim=128)
        torch.testing.assert_close(memory.bank.norm(dim=1), torch.ones(4000))
        # Of a standard error: a direction in common would show.
        assert memory.bank.mean(dim=0).norm() < 1.2 / math.sqrt(4000)

    def test_uniform_rows_are_the_official_ones(self):
        bank = memory_of(length=2000, dim=128, init='uniform').bank
        assert bank.abs().max() <= 0.153094
        assert bank.max() > 0.1530 and bank.min() < -0.1530
        torch.testing.assert_close(bank.square().sum(1).mean().item(), 1.0, atol=3e-3, rtol=0)
        assert bank.norm(dim=1).std() > 0.02  # Not normalised.
        torch.testing.assert_close(bank.std().item(), 0.153093 / 3**0.5, atol=3e-4, rtol=0)

    @pytest.mark.parametrize('init', ['unit', 'uniform'])
    def test_rows_depend_on_the_seed_alone(self, init):
        torch.manual_seed(1)
        first = memory_of(init=init, seed=3).bank
        torch.manual_seed(2)
        assert torch.equal(first, memory_of(init=init, seed=3).bank)
        assert not torch.equal(first, memory_of(init=init, seed=4).bank)

    def test_the_graph_starts_unfilled(self):
        memory = memory_of()
        assert memory.neighbours.dtype == torch.int64
        assert torch.equal(memory.neighbours, torch.full((10, 3), -1))

    def test_drawing_rows_leaves_the_global_generator_alone(self):
        before = torch.get_rng_state()
        memory_of()
        assert torch.equal(before, torch.get_rng_state())


class TestSize:
    def test_comes_from_the_data_set(self):
        memory = memory_of(length=None)
        assert len(memory) == 0
        memory.fit(7)
        assert memory.bank.shape == (7, 4) and memory.neighbours.shape == (7, 3)
        assert torch.equal(memory.bank, memory_of(length=7).bank)

    def test_fitting_again_keeps_the_rows(self):
        memory = memory_of(length=7)
        memory.bank.mul_(-1)
        kept = memory.bank.clone()
        memory.fit(7)
        assert torch.equal(memory.bank, kept)

    def test_another_length_than_configured_is_refused(self):
        with pytest.raises(ValueError, match='has 9 rows, the data set 7 images.*length'):
            memory_of(length=9).fit(7)

    @pytest.mark.parametrize('length', [1, 3])
    def test_too_few_rows_for_the_graph_are_refused(self, length):
        with pytest.raises(ValueError, match=f'{length} rows cannot give 3 .*1 to {length - 1}'):
            memory_of(length=None).fit(length)
        memory_of(length=None).fit(4)

    @pytest.mark.parametrize(
        ('option', 'message'),
        [
            (dict(init='zeros'), "init = 'zeros' is unknown; valid: 'unit', 'uniform'"),
            (dict(update='step'), "update = 'step' is unknown; valid: 'iteration', 'epoch'"),
            (dict(momentum=1.5), 'momentum = 1.5 must be within 0 to 1.*old row'),
            (dict(momentum=-0.1), 'momentum = -0.1'),
            (dict(feat_dim=0), 'feat_dim = 0 is outside'),
            (dict(num_neighbours=0), 'num_neighbours = 0 is outside'),
            (dict(backend='gpu'), "backend = 'gpu' is unknown; valid: 'auto', 'torch'"),
        ],
    )
    def test_wrong_options_are_named(self, option, message):
        with pytest.raises(ValueError, match=message):
            PropagationMemory(**option)


def test_backend_searches_and_builds_the_graph(monkeypatch):
    used = []
    for name in ('top_m', 'knn_graph'):
        plain = getattr(ops, name)
        monkeypatch.setattr(
            ops,
            name,
            lambda *args, plain=plain, **options: (
                used.append(options['backend']) or plain(*args, **options)
            ),
        )
    memory = memory_of(backend='torch')
    memory.search(memory.bank[:2], 3)
    memory.rebuild_graph()
    assert used == ['torch', 'torch']


class TestUpdate:
    @pytest.mark.parametrize(
        ('momentum', 'expected'),
        [
            (0.5, (0.894427, 0.447214)),
            (0.9, (0.996546, 0.083045)),
            (1.0, (1.0, 0.0)),
            (0.0, (0.6, 0.8)),
        ],
    )
    def test_momentum_weighs_the_old_row(self, momentum, expected):
        """METHODS, A-G7."""
        memory = memory_of(length=2, k=1, dim=2, momentum=momentum)
        memory.bank.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        commit(memory, [1], torch.tensor([[0.6, 0.8]]))
        torch.testing.assert_close(memory.bank[1], torch.tensor(expected), atol=1e-6, rtol=0)
        assert torch.equal(memory.bank[0], torch.tensor([0.0, 1.0]))

    def test_only_the_rows_of_the_batch_change(self):
        memory = memory_of()
        before, feature = memory.bank.clone(), toy.rows(3, 4, seed=1)
        neighbours = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
        commit(memory, [5, 0, 8], feature, neighbours)
        expected = before.clone()
        for row, new in zip([5, 0, 8], feature, strict=True):
            total = 0.5 * before[row].double() + 0.5 * new.double()
            expected[row] = (total / total.square().sum().sqrt()).float()
        torch.testing.assert_close(memory.bank, expected)
        links = torch.full((10, 3), -1)
        links[[5, 0, 8]] = neighbours
        assert torch.equal(memory.neighbours, links)

    def test_the_graph_can_be_left_alone(self):
        memory = memory_of()
        before = memory.bank.clone()
        commit(memory, [2], toy.rows(1, 4), torch.tensor([[1, 3, 4]]), refresh=False)
        assert (memory.neighbours == -1).all()
        assert not torch.equal(memory.bank[2], before[2])

    @pytest.mark.parametrize('order', [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
    def test_the_first_of_equal_samples_is_written(self, order):
        """Whichever order a scatter writes in."""
        sample, feature = torch.tensor([7, 2, 7, 7, 5]), toy.rows(5, 4, seed=2)
        neighbours = torch.arange(15).reshape(5, 3) % 7
        memory = memory_of()
        before = memory.bank.clone()
        commit(memory, sample[order].tolist(), feature[order], neighbours[order])
        for row in (2, 5, 7):
            first = next(i for i in order if sample[i] == row)
            expected = F.normalize(before[row] + feature[first], dim=0)
            torch.testing.assert_close(memory.bank[row], expected)
            assert torch.equal(memory.neighbours[row], neighbours[first])

    def test_features_keep_no_autograd_graph(self):
        memory = memory_of()
        feature = toy.rows(2, 4).requires_grad_()
        commit(memory, [0, 1], feature * 1)
        assert not memory.bank.requires_grad

    def test_committing_nothing_changes_nothing(self):
        memory = memory_of()
        before = {name: value.clone() for name, value in memory.state_dict().items()}
        memory.commit()
        assert all(torch.equal(before[name], value) for name, value in memory.state_dict().items())

    def test_staging_twice_names_the_hook(self):
        memory = memory_of()
        batch = torch.tensor([0]), toy.rows(1, 4), torch.tensor([[1, 2, 3]])
        memory.stage(*batch)
        with pytest.raises(RuntimeError, match='PropagationMemoryHook'):
            memory.stage(*batch)
        memory.commit()
        memory.stage(*batch)

    def test_inserted_keys_are_the_rows(self):
        """MomentumInvP: keys enter before the loss; the queries that follow only link."""
        memory = memory_of()
        before, key, query = memory.bank.clone(), toy.rows(2, 4, seed=3), toy.rows(2, 4, seed=4)
        anchor = memory.insert(key, torch.tensor([6, 1]))
        assert anchor.tolist() == [6, 1]
        expected = F.normalize(before[[6, 1]] + key)
        torch.testing.assert_close(memory.bank[[6, 1]], expected)
        commit(memory, [6, 1], query, torch.tensor([[1, 2, 3], [4, 5, 6]]))
        torch.testing.assert_close(memory.bank[[6, 1]], expected)
        assert memory.neighbours[[6, 1]].tolist() == [[1, 2, 3], [4, 5, 6]]

    def test_a_step_without_keys_writes_its_features_again(self):
        memory = memory_of()
        memory.insert(toy.rows(1, 4, seed=3), torch.tensor([6]))
        commit(memory, [6], toy.rows(1, 4, seed=4))
        before, feature = memory.bank[6].clone(), toy.rows(1, 4, seed=5)
        commit(memory, [6], feature)
        torch.testing.assert_close(memory.bank[6], F.normalize(before + feature[0], dim=0))

    @pytest.mark.parametrize('order', [[0, 1, 2], [2, 1, 0]])
    def test_the_first_of_equal_keys_is_the_row(self, order):
        memory = memory_of()
        before, key = memory.bank[6].clone(), toy.rows(3, 4, seed=3)[order]
        memory.insert(key, torch.tensor([6, 6, 6]))
        torch.testing.assert_close(memory.bank[6], F.normalize(before + key[0], dim=0))


class TestEpochUpdate:
    def test_rows_change_when_the_epoch_ends(self):
        slow, fast = memory_of(update='epoch'), memory_of()
        before = slow.bank.clone()
        for step in range(2):
            sample, feature = [3 * step, 1 + 3 * step], toy.rows(2, 4, seed=step)
            links = torch.tensor([[5, 6, 7], [7, 8, 9]])
            commit(slow, sample, feature, links)
            commit(fast, sample, feature, links)
            assert torch.equal(slow.bank, before)
        assert torch.equal(slow.neighbours, fast.neighbours)  # The graph does not wait.
        slow.end_epoch()
        torch.testing.assert_close(slow.bank, fast.bank)
        commit(slow, [0], toy.rows(1, 4, seed=9))
        torch.testing.assert_close(slow.bank, fast.bank)

    def test_a_row_seen_twice_averages_the_row_of_the_last_epoch(self):
        """All at once when the epoch ends: neither sees the other."""
        memory = memory_of(update='epoch')
        before, feature = memory.bank[4].clone(), toy.rows(2, 4, seed=5)
        commit(memory, [4], feature[:1])
        commit(memory, [4], feature[1:])
        memory.end_epoch()
        torch.testing.assert_close(memory.bank[4], F.normalize(before + feature[1], dim=0))

    def test_what_waits_is_in_the_state(self):
        memory, other = memory_of(update='epoch'), memory_of(update='epoch', seed=9)
        commit(memory, [3], toy.rows(1, 4))
        other.load_state_dict(memory.state_dict())
        for each in (memory, other):
            each.end_epoch()
        assert torch.equal(memory.bank, other.bank)
        assert not torch.equal(memory.bank, memory_of().bank)

    def test_an_unsized_memory_takes_it_from_a_checkpoint(self):
        memory, empty = memory_of(update='epoch'), memory_of(length=None, update='epoch')
        commit(memory, [3], toy.rows(1, 4))
        empty.load_state_dict(memory.state_dict())
        memory.end_epoch()
        empty.end_epoch()
        assert torch.equal(memory.bank, empty.bank)

    def test_it_ends_an_epoch_for_nobody_else(self):
        memory = memory_of()
        commit(memory, [3], toy.rows(1, 4))
        after = memory.bank.clone()
        memory.end_epoch()
        assert torch.equal(memory.bank, after)


class TestFaults:
    @pytest.mark.parametrize('update', ['iteration', 'epoch'])
    @pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
    def test_reach_neither_bank_nor_graph_and_are_remembered(self, bad, update):
        memory, reference = memory_of(update=update), memory_of(update=update)
        memory.iteration = 12
        feature = toy.rows(4, 4, seed=6)
        links = torch.arange(12).reshape(4, 3) % 10
        commit(reference, [4, 1], feature[[0, 2]], links[[0, 2]])
        feature[1, 2] = feature[3, 0] = bad
        commit(memory, [4, 9, 1, 6], feature, links)
        for each in (memory, reference):
            each.end_epoch()
        torch.testing.assert_close(memory.bank, reference.bank, rtol=0, atol=0)
        assert torch.equal(memory.neighbours, reference.neighbours)
        assert memory.faults.tolist() == [9, 6] + [-1] * 6
        assert memory.fault_iteration == 12

    def test_the_first_are_kept(self):
        memory = memory_of(length=30)
        for iteration, ids in ((1, range(5)), (2, range(20)), (3, range(20, 24))):
            memory.iteration = iteration
            feature = toy.rows(len(ids), 4)
            if iteration > 1:
                feature[:] = math.nan
            commit(memory, list(ids), feature)
            assert memory.fault_iteration == (-1 if iteration == 1 else 2)
        assert memory.faults.tolist() == list(range(8))

    def test_a_repeat_of_a_bad_sample_follows_the_first(self):
        memory = memory_of()
        before = memory.bank.clone()
        feature = toy.rows(2, 4)
        feature[0] = math.nan
        commit(memory, [3, 3], feature)
        assert torch.equal(memory.bank, before)
        assert (memory.neighbours == -1).all()

    def test_bad_keys_are_kept_out_too(self):
        memory = memory_of()
        before = memory.bank.clone()
        key = toy.rows(2, 4, seed=1)
        key[1] = math.nan
        memory.insert(key, torch.tensor([2, 5]))
        assert torch.equal(memory.bank[5], before[5])
        assert not torch.equal(memory.bank[2], before[2])
        assert memory.faults[0] == 5

    def test_a_bad_query_behind_a_good_key_is_kept_out_of_the_graph(self):
        memory = memory_of()
        query = toy.rows(2, 4)
        query[1] = math.nan
        memory.insert(toy.rows(2, 4, seed=1), torch.tensor([2, 5]))
        commit(memory, [2, 5], query, torch.tensor([[0, 1, 3], [0, 1, 3]]))
        assert memory.neighbours[[2, 5]].tolist() == [[0, 1, 3], [-1, -1, -1]]
        assert memory.faults[0] == 5


class TestState:
    def test_holds_bank_and_graph_and_nothing_else(self):
        assert set(memory_of().state_dict()) == {'bank', 'neighbours'}
        assert set(memory_of(update='epoch').state_dict()) == {'bank', 'neighbours', 'next_bank'}

    @pytest.mark.parametrize('length', [10, None])
    def test_round_trip(self, length):
        memory, other = memory_of(seed=1), memory_of(length=length)
        commit(memory, [3], toy.rows(1, 4), torch.tensor([[0, 1, 2]]))
        other.load_state_dict(memory.state_dict())
        assert torch.equal(other.bank, memory.bank)
        assert torch.equal(other.neighbours, memory.neighbours)
        other.bank.zero_()
        assert memory.bank.any()  # A copy.

    @pytest.mark.parametrize(
        ('other', 'message'),
        [
            (dict(length=11), r'bank of shape \(10, 4\), this run has \(11, 4\)'),
            (dict(dim=5), r'bank of shape \(10, 4\), this run has \(10, 5\)'),
            (dict(k=2), r'neighbours of shape \(10, 3\), this run has \(10, 2\)'),
            (dict(length=None, dim=5), r'bank of shape \(10, 4\), this run has \(0, 5\)'),
            (dict(length=None, k=2), r'neighbours of shape \(10, 3\), this run has \(0, 2\)'),
        ],
    )
    def test_another_shape_is_refused(self, other, message):
        with pytest.raises(ValueError, match=message + '.*another data set.*Pretrained'):
            memory_of(**other).load_state_dict(memory_of().state_dict())

    def test_the_host_does_not_swallow_the_refusal(self, tmp_path):
        """By itself it would skip what does not fit with a warning."""
        model, other = nn.ModuleDict(), nn.ModuleDict()
        model['memory'], other['memory'] = memory_of(), memory_of(length=12)
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
        with pytest.raises(ValueError, match=r'holds memory.bank of shape \(10, 4\)'):
            load_checkpoint(other, str(tmp_path / 'model.pth'))
        assert torch.equal(other['memory'].bank, memory_of(length=12).bank)

    def test_the_network_alone_loads_without_a_memory(self):
        """The way that the refusal recommends."""
        model = nn.ModuleDict(dict(neck=nn.Linear(2, 2), memory=memory_of()))
        state = {name: value for name, value in model.state_dict().items() if 'neck' in name}
        other = nn.ModuleDict(dict(neck=nn.Linear(2, 2), memory=memory_of(length=12)))
        other.load_state_dict(state, strict=False)
        assert torch.equal(other['neck'].weight, model['neck'].weight)

    @pytest.mark.parametrize('length', [10, None])
    def test_goes_on_with_another_update(self, length):
        memory, other = memory_of(seed=1), memory_of(length=length, update='epoch')
        other.load_state_dict(memory.state_dict())
        other.end_epoch()
        assert torch.equal(other.bank, memory.bank)

    def test_buffers_move(self):
        memory = memory_of(update='epoch').to('meta')
        names = {name for name, _ in memory.named_buffers()}
        assert {'bank', 'neighbours', 'next_bank', 'faults', 'edge_changes'} <= names
        assert all(value.device.type == 'meta' for _, value in memory.named_buffers())

    def test_a_memory_sized_after_moving_stays_there(self):
        memory = memory_of(length=None, update='epoch').to('meta')
        memory.fit(7)
        assert memory.bank.device.type == memory.neighbours.device.type == 'meta'
        assert memory.next_bank.device.type == 'meta'

    def test_half_precision_rows_stay_half(self):
        memory = memory_of(length=None).half()
        memory.fit(7)
        commit(memory, [3], toy.rows(1, 4))
        assert memory.bank.dtype == torch.float16 and memory.neighbours.dtype == torch.int64


class TestGraph:
    @pytest.mark.parametrize(
        ('own', 'expected'),
        [(7, [5, 3, 9, 1]), (9, [7, 3, 5, 1]), (5, [7, 3, 9, 1]), (8, [7, 3, 9, 1])],
    )
    def test_rows_are_refreshed_as_in_the_official_code(self, own, expected):
        """METHODS, A-G6."""
        memory = memory_of(k=4)
        similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
        nearest = similarity, torch.tensor([[7, 3, 9, 1, 5]])
        assert memory.nearest_others(nearest, torch.tensor([own])).tolist() == [expected]

    def test_a_refreshed_row_of_the_golden_example(self):
        """METHODS, A-G4: row 1 becomes [2, 0] after the step."""
        angle = torch.deg2rad(torch.tensor([0.0, 10, 25, 100, 104, 200, 12]))
        points = torch.stack([angle.cos(), angle.sin()], dim=1)
        memory = memory_of(length=6, k=2, dim=2)
        memory.bank.copy_(points[:6])
        query, anchor = points[6:], torch.tensor([1])
        # A search in arbitrary order but for the farthest in the last place.
        others = memory.nearest_others(memory.search(query, 5), anchor)
        commit(memory, [1], query, others)
        assert memory.neighbours[1].tolist() == [2, 0]

    @pytest.mark.parametrize('width', [4, 7, 30])
    def test_nearest_others_of_a_search(self, width):
        memory, query = memory_of(length=30, k=3), toy.rows(12, 4, seed=7)
        anchor = torch.arange(12)
        found = memory.nearest_others(memory.search(query, width), anchor)
        for i in range(12):
            order = (memory.bank.double() @ query[i].double()).argsort(descending=True).tolist()
            order.remove(i)
            assert sorted(found[i].tolist()) == sorted(order[:3])

    def test_more_can_be_asked_for(self):
        memory, query = memory_of(length=30), toy.rows(2, 4)
        found = memory.nearest_others(memory.search(query, 9), torch.tensor([3, 4]), 8)
        assert found.shape == (2, 8)
        found = memory.nearest_others(memory.search(query, 99), torch.tensor([3, 4]), 98)
        assert [sorted(row) for row in found.tolist()] == [
            [row for row in range(30) if row != own] for own in (3, 4)
        ]

    def test_rebuilding_gives_the_exact_graph(self):
        memory = memory_of(length=40)
        memory.rebuild_graph()
        similarity = memory.bank.double() @ memory.bank.double().T
        similarity.fill_diagonal_(-9)
        assert torch.equal(memory.neighbours, similarity.topk(3).indices)

    def test_changed_edges_are_counted(self):
        memory = memory_of()
        memory.link(torch.tensor([0, 1]), torch.tensor([[1, 2, 3], [4, 5, 6]]))
        assert memory.edge_changes.tolist() == [0, 0]  # Filled for the first time.
        memory.link(torch.tensor([0, 1, 2]), torch.tensor([[3, 1, 9], [4, 5, 6], [7, 8, 9]]))
        assert memory.edge_changes.tolist() == [1, 6]
