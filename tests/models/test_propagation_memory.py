import math

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.memory import NonFiniteFeatures, knn_graph
from mmselfsup_invp.models import PropagationMemory
from mmselfsup_invp.models.memories import graph_memory
from mmselfsup_invp.ops import Neighbours
from mmselfsup_invp.ops.graph import nearest_others

from .. import toy


def memory_of(length=10, k=3, dim=4, **options):
    return PropagationMemory(length=length, num_neighbours=k, feat_dim=dim, **options)


def commit(memory, sample_idx, feature, neighbours=None):
    """Stage and commit a batch."""
    if neighbours is None:
        neighbours = torch.zeros(len(sample_idx), memory.num_neighbours, dtype=torch.int64)
    memory.stage(torch.tensor(sample_idx), feature, neighbours)
    memory.commit()


def test_the_paper_and_its_code_are_the_default():
    memory = PropagationMemory()
    assert memory.features.momentum == 0.5 and not memory.features.delayed
    assert memory.bank.shape == (0, 128) and memory.neighbours.shape == (0, 4)
    assert (memory.num_neighbours, memory.backend, memory.bank.dtype) == (4, 'auto', torch.float32)
    torch.testing.assert_close(memory_of().bank.norm(dim=1), torch.ones(10))


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(init='zeros'), "init = 'zeros' is not valid. It must be one of 'unit', 'uniform'"),
        (
            dict(update='step'),
            "update = 'step' is not valid. It must be one of 'iteration', 'epoch'",
        ),
        (dict(momentum=1.5), 'momentum = 1.5 is not valid. It must be a finite number from 0 to 1'),
        (
            dict(dtype='int8'),
            "dtype = 'int8' is not valid. It must be one of 'float32', 'float16', 'bfloat16'",
        ),
        (dict(num_neighbours=0), 'num_neighbours = 0 is not valid'),
        (dict(backend='gpu'), "backend = 'gpu' is not valid. It must be one of 'auto', 'torch'"),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        PropagationMemory(**option)


def test_options_reach_the_bank():
    memory = memory_of(momentum=0.9, init='uniform', seed=3, dtype='float16', update='epoch')
    bank = memory.features
    assert (bank.momentum, bank.init, bank.seed, bank.delayed) == (0.9, 'uniform', 3, True)
    assert memory.bank.dtype == bank.next_bank.dtype == torch.float16


def test_the_backend_searches_and_builds_the_graph(monkeypatch):
    used = []

    def watch(module, name):
        plain = getattr(module, name)

        def watched(*args, **options):
            used.append((name, options['backend']))
            return plain(*args, **options)

        monkeypatch.setattr(module, name, watched)

    watch(graph_memory, 'top_m')
    watch(knn_graph.graph, 'knn_graph')
    memory = memory_of(backend='torch')
    memory.search(memory.bank[:2], 3)
    memory.rebuild_graph()
    assert used == [('top_m', 'torch'), ('knn_graph', 'torch')]


class TestUpdate:
    def test_rows_and_neighbours_of_the_batch_change(self):
        memory = memory_of()
        before, feature = memory.bank.clone(), toy.rows(3, 4, seed=1)
        neighbours = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
        commit(memory, [5, 0, 8], feature, neighbours)
        expected = before.clone()
        expected[[5, 0, 8]] = F.normalize(before[[5, 0, 8]] + feature)
        torch.testing.assert_close(memory.bank, expected)
        links = torch.full((10, 3), -1)
        links[[5, 0, 8]] = neighbours
        assert torch.equal(memory.neighbours, links)

    @pytest.mark.parametrize('order', [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
    def test_the_first_of_equal_images_is_written(self, order):
        sample_idx, feature = torch.tensor([7, 2, 7])[order], toy.rows(3, 4, seed=2)[order]
        neighbours = torch.arange(9).reshape(3, 3)[order]
        memory = memory_of()
        before = memory.bank.clone()
        commit(memory, sample_idx.tolist(), feature, neighbours)
        for row in (2, 7):
            first = sample_idx.tolist().index(row)
            expected = F.normalize(before[row] + feature[first], dim=0)
            torch.testing.assert_close(memory.bank[row], expected)
            assert torch.equal(memory.neighbours[row], neighbours[first])

    def test_the_graph_can_be_left_alone(self):
        memory = memory_of()
        before = memory.bank.clone()
        memory.refresh = False
        commit(memory, [2], toy.rows(1, 4), torch.tensor([[1, 3, 4]]))
        assert (memory.neighbours == -1).all()
        assert not torch.equal(memory.bank[2], before[2])

    def test_rows_wait_for_the_end_of_the_epoch_and_the_graph_does_not(self):
        slow, fast = memory_of(update='epoch'), memory_of()
        before = slow.bank.clone()
        for step in range(2):
            sample_idx, feature = [3 * step, 1 + 3 * step], toy.rows(2, 4, seed=step)
            for memory in (slow, fast):
                commit(memory, sample_idx, feature, torch.tensor([[5, 6, 7], [7, 8, 9]]))
            assert torch.equal(slow.bank, before)
        assert torch.equal(slow.neighbours, fast.neighbours)
        for memory in (slow, fast):
            memory.end_epoch()
        assert torch.equal(slow.bank, fast.bank) and not torch.equal(slow.bank, before)
        commit(slow, [0], toy.rows(1, 4, seed=9))
        assert torch.equal(slow.bank, fast.bank)


class TestKeys:
    """Rows of a momentum encoder: inserted before the loss, or staged in place of the query."""

    def test_inserted_keys_are_the_rows_and_queries_only_link(self):
        memory = memory_of()
        memory.rows_from_keys = True
        before, key = memory.bank.clone(), toy.rows(2, 4, seed=3)
        anchor = memory.insert(key, torch.tensor([6, 1]))
        assert anchor.tolist() == [6, 1]
        expected = before.clone()
        expected[[6, 1]] = F.normalize(before[[6, 1]] + key)
        torch.testing.assert_close(memory.bank, expected)
        query, neighbours = toy.rows(2, 4, seed=4), torch.tensor([[1, 2, 3], [4, 5, 6]])
        commit(memory, [6, 1], query, neighbours)
        torch.testing.assert_close(memory.bank, expected)
        assert torch.equal(memory.neighbours[[6, 1]], neighbours)

    @pytest.mark.parametrize('order', [[0, 1, 2], [2, 1, 0]])
    def test_the_first_of_equal_keys_is_the_row(self, order):
        memory = memory_of()
        before, key = memory.bank[6].clone(), toy.rows(3, 4, seed=3)[order]
        memory.insert(key, torch.tensor([6, 6, 6]))
        torch.testing.assert_close(memory.bank[6], F.normalize(before + key[0], dim=0))

    def test_a_key_that_is_not_finite_stays_out(self):
        memory = memory_of()
        before, key = memory.bank.clone(), toy.rows(2, 4, seed=1)
        key[1] = math.nan
        memory.insert(key, torch.tensor([2, 5]))
        assert torch.equal(memory.bank[5], before[5])
        assert not torch.equal(memory.bank[2], before[2])
        with pytest.raises(NonFiniteFeatures, match=r'\[5\]'):
            memory.monitor.check()

    def test_a_query_that_is_not_finite_behind_a_good_key_stays_out_of_the_graph(self):
        memory = memory_of()
        memory.rows_from_keys = True
        query = toy.rows(2, 4)
        query[1] = math.nan
        memory.insert(toy.rows(2, 4, seed=1), torch.tensor([2, 5]))
        commit(memory, [2, 5], query, torch.tensor([[0, 1, 3], [0, 1, 3]]))
        assert memory.neighbours[[2, 5]].tolist() == [[0, 1, 3], [-1, -1, -1]]
        with pytest.raises(NonFiniteFeatures, match=r'\[5\]'):
            memory.monitor.check()

    def test_a_staged_key_replaces_its_row_and_links_by_its_own_search(self):
        """As soft propagation needs it: momentum 0, the graph from the key's search."""
        memory, key = memory_of(momentum=0.0), toy.rows(2, 4, seed=3)
        sample_idx = torch.tensor([6, 1])
        others = nearest_others(memory.search(key, 4), sample_idx, 3)
        expected = [
            [row for row in order if row != own][:3]
            for own, order in zip(
                sample_idx.tolist(), (key @ memory.bank.T).argsort(1, True).tolist(), strict=True
            )
        ]
        commit(memory, sample_idx.tolist(), key, others)
        torch.testing.assert_close(memory.bank[sample_idx], key)
        assert [sorted(row) for row in memory.neighbours[sample_idx].tolist()] == [
            sorted(row) for row in expected
        ]


class TestGraph:
    @pytest.mark.parametrize(
        ('own', 'expected'),
        [(7, [5, 3, 9, 1]), (9, [7, 3, 5, 1]), (5, [7, 3, 9, 1]), (8, [7, 3, 9, 1])],
    )
    def test_rows_are_refreshed_as_in_the_official_code(self, own, expected):
        """METHODS, A-G6."""
        similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
        nearest = Neighbours(similarity, torch.tensor([[7, 3, 9, 1, 5]]))
        assert nearest_others(nearest, torch.tensor([own]), 4).tolist() == [expected]

    def test_a_refreshed_row_of_the_golden_example(self):
        """METHODS, A-G4: row 1 becomes [2, 0] after the step."""
        angle = torch.deg2rad(torch.tensor([0.0, 10, 25, 100, 104, 200, 12]))
        points = torch.stack([angle.cos(), angle.sin()], dim=1)
        memory = memory_of(length=6, k=2, dim=2)
        memory.bank.copy_(points[:6])
        query, anchor = points[6:], torch.tensor([1])
        others = nearest_others(memory.search(query, 5), anchor, 2)
        commit(memory, [1], query, others)
        assert memory.neighbours[1].tolist() == [2, 0]

    @pytest.mark.parametrize('width', [4, 7, 30])
    def test_nearest_others_of_a_search(self, width):
        memory, query = memory_of(length=30, k=3), toy.rows(12, 4, seed=7)
        anchor = torch.arange(12)
        found = nearest_others(memory.search(query, width), anchor, 3)
        for i in range(12):
            order = (memory.bank.double() @ query[i].double()).argsort(descending=True).tolist()
            order.remove(i)
            assert sorted(found[i].tolist()) == sorted(order[:3])

    def test_more_can_be_asked_for(self):
        memory, query = memory_of(length=30), toy.rows(2, 4)
        found = nearest_others(memory.search(query, 9), torch.tensor([3, 4]), 8)
        assert found.shape == (2, 8)
        found = nearest_others(memory.search(query, 99), torch.tensor([3, 4]), 98)
        assert [sorted(row) for row in found.tolist()] == [
            [row for row in range(30) if row != own] for own in (3, 4)
        ]

    def test_a_search_can_leave_out_a_row_of_each_query(self):
        memory, query = memory_of(length=30), toy.rows(2, 4)
        found = memory.search(query, 99, exclude=torch.tensor([3, 4]))
        assert [sorted(row) for row in found.index.tolist()] == [
            [row for row in range(30) if row != own] for own in (3, 4)
        ]

    def test_rebuilding_gives_the_exact_graph_and_counts_the_changes(self):
        memory = memory_of(length=40)
        commit(memory, [0], toy.rows(1, 4), torch.tensor([[1, 2, 3]]))
        memory.rebuild_graph()
        similarity = (memory.bank.double() @ memory.bank.double().T).fill_diagonal_(-9)
        expected = similarity.topk(3).indices
        assert torch.equal(memory.neighbours, expected)
        changed = sum(row not in (1, 2, 3) for row in expected[0].tolist())
        assert memory.edge_churn() == changed / 3 and memory.edge_churn() is None
