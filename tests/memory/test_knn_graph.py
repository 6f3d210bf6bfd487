import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.memory import KNNGraph
from mmselfsup_invp.ops import graph as graph_ops

from .tools import rows


def graph_of(length=10, k=3):
    return KNNGraph(k, length)


def test_it_starts_without_edges():
    graph = graph_of()
    assert torch.equal(graph.neighbours, torch.full((10, 3), -1))
    assert graph.neighbours.dtype == torch.int64 and KNNGraph().num_neighbours == 4


@pytest.mark.parametrize('order', [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_linking_equals_a_loop_over_the_batch(order):
    """The first of equal rows counts, and rows that are not valid keep their neighbours."""
    anchor = torch.tensor([7, 2, 7, 7, 5])[order]
    neighbours = torch.arange(15).reshape(5, 3)[order] % 7
    valid = torch.tensor([True, False, True, False, True])[order]
    graph = graph_of()
    graph.rebuild(rows(10))
    expected = graph.neighbours.clone()
    for row in set(anchor.tolist()):
        first = anchor.tolist().index(row)
        if valid[first]:
            expected[row] = neighbours[first]
    graph.link(anchor, neighbours, valid)
    assert torch.equal(graph.neighbours, expected)


def test_without_a_mask_all_rows_are_linked():
    graph = graph_of()
    graph.link(torch.tensor([5, 0]), torch.tensor([[1, 2, 3], [4, 6, 7]]))
    assert graph.neighbours[[5, 0]].tolist() == [[1, 2, 3], [4, 6, 7]]
    assert (graph.neighbours >= 0).sum() == 6


def test_forgetting_removes_the_edges_of_and_to_rows():
    graph = graph_of()
    graph.neighbours.copy_(torch.arange(30).reshape(10, 3) * 7 % 10)
    graph.neighbours[4] = -1  # No edges, which are not those of row 0.
    expected, gone = graph.neighbours.tolist(), {8, 9, 0, 1}
    for row in range(10):
        for column in range(3):
            if row in gone or expected[row][column] in gone:
                expected[row][column] = -1
    graph.forget(torch.tensor([8, 9, 0, 1]))
    assert graph.neighbours.tolist() == expected
    assert any(-1 in row and row != [-1] * 3 for row in expected), 'some rows lose a part'


def test_rebuilding_gives_the_exact_graph():
    graph, bank = graph_of(40), rows(40)
    graph.rebuild(bank)
    similarity = (bank.double() @ bank.double().T).fill_diagonal_(-9)
    assert torch.equal(graph.neighbours, similarity.topk(3).indices)


def test_the_backend_is_passed_on(monkeypatch):
    used = []
    monkeypatch.setattr(
        graph_ops,
        'knn_graph',
        lambda bank, k, backend: used.append(backend) or torch.zeros(10, 3, dtype=torch.int64),
    )
    graph_of().rebuild(rows(10), backend='torch')
    graph_of().rebuild(rows(10))
    assert used == ['torch', 'auto']


@pytest.mark.parametrize('mode', ['set', 'concat'])
@pytest.mark.parametrize('hops', [1, 3])
def test_propagation_is_that_of_the_operation(mode, hops):
    graph, anchor = graph_of(), torch.tensor([3, 8])
    graph.rebuild(rows(10))
    expected = ops.propagate(graph.neighbours, anchor, hops, mode)
    for found, value in zip(graph.propagate(anchor, hops, mode), expected, strict=True):
        assert torch.equal(found, value)


def test_churn_is_the_share_of_rewritten_edges_that_changed():
    graph = graph_of()
    graph.link(torch.tensor([0, 1]), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert graph.churn() is None, 'first neighbours do not count'
    graph.link(torch.tensor([0, 1, 2]), torch.tensor([[3, 1, 9], [4, 5, 6], [7, 8, 9]]))
    assert graph.churn() == 1 / 6
    assert graph.churn() is None, 'it was read'
    graph.link(torch.tensor([0]), torch.tensor([[1, 2, 3]]))
    graph.link(torch.tensor([1]), torch.tensor([[4, 5, 6]]), torch.tensor([False]))
    assert graph.churn() == 1 / 6  # 9 became 2; a row that was kept counts as rewritten.


def test_edges_to_row_0_count_as_edges():
    graph = graph_of(k=1)
    for neighbour in ([[0]], [[2]]):
        graph.link(torch.tensor([5]), torch.tensor(neighbour))
    assert graph.churn() == 1


def test_a_rebuild_counts_as_rewriting():
    graph, bank = graph_of(), rows(10)
    graph.rebuild(bank)
    assert graph.churn() is None
    before = graph.neighbours.clone()
    graph.rebuild(rows(10, seed=1))
    kept = sum(
        int(new in old)
        for row, old in zip(graph.neighbours.tolist(), before.tolist(), strict=True)
        for new in row
    )
    assert graph.churn() == pytest.approx(1 - kept / 30) and 0 < kept < 30


@pytest.mark.parametrize('length', [1, 3])
def test_too_few_rows_are_refused(length):
    with pytest.raises(ValueError, match=f'{length} rows cannot give 3 .*1 to {length - 1}'):
        KNNGraph(3).resize(length)
    KNNGraph(3).resize(4)


def test_a_graph_without_neighbours_is_refused():
    with pytest.raises(ValueError, match='num_neighbours = 0 is not valid'):
        KNNGraph(0)


def test_the_share_of_mutual_edges_equals_a_loop(monkeypatch):
    monkeypatch.setattr('mmselfsup_invp.memory.knn_graph.MUTUAL_BATCH', 4)
    graph = graph_of()
    assert graph.mutual_share() == 0
    graph.rebuild(rows(10))
    graph.neighbours[3] = -1
    lists = graph.neighbours.tolist()
    edges = [(row, end) for row, ends in enumerate(lists) for end in ends if end >= 0]
    mutual = sum(row in lists[end] for row, end in edges)
    assert graph.mutual_share() == pytest.approx(mutual / len(edges))
    assert 0 < graph.mutual_share() < 1
