import pytest
import torch

from mmselfsup_invp.ops import exclude_anchor, knn_graph, propagate
from mmselfsup_invp.ops.graph import GRAPH_BATCH

from . import reference
from .tools import POINTS, unit_rows

GRAPHS = {
    1: [[1], [0], [1], [4], [3], [4]],
    2: [[1, 2], [0, 2], [1, 0], [4, 2], [3, 2], [4, 3]],
    3: [[1, 2, 3], [0, 2, 3], [1, 0, 3], [4, 2, 1], [3, 2, 1], [4, 3, 0]],
}
CHAIN = torch.tensor([[1], [2], [3], [4], [5], [4]])


def sets(neighbours: torch.Tensor, hops: int) -> list[list[int]]:
    """N(i) of every row."""
    index, mask = propagate(neighbours, torch.arange(len(neighbours)), hops)
    return [row[keep].tolist() for row, keep in zip(index, mask, strict=True)]


def random_graph(rows: int, k: int, gaps: bool, seed: int) -> torch.Tensor:
    """A digraph with self-loops, repeated edges and, with ``gaps``, edges that are missing."""
    generator = torch.Generator().manual_seed(seed)
    graph = torch.randint(0, rows, (rows, k), generator=generator)
    if gaps:
        graph[torch.rand(rows, k, generator=generator) < 0.3] = -1
        graph[1 : rows // 4] = -1
    return graph


@pytest.mark.parametrize('k', GRAPHS)
def test_golden_graph(k):
    assert knn_graph(POINTS, k).tolist() == GRAPHS[k]


@pytest.mark.parametrize(('rows', 'k', 'dim'), [(2, 1, 3), (30, 4, 5), (30, 29, 5)])
def test_knn_graph_is_the_brute_force_result(rows, k, dim):
    bank = unit_rows(rows, dim, seed=0)
    assert knn_graph(bank, k).tolist() == reference.knn_graph(bank, k)


@pytest.mark.parametrize('max_elements', [1, None])
def test_knn_graph_in_several_batches(max_elements):
    bank = unit_rows(GRAPH_BATCH + 5, 3, seed=1)
    graph = knn_graph(bank, 2, max_elements=max_elements)
    similarity = (bank @ bank.T).fill_diagonal_(-2)
    torch.testing.assert_close(similarity.gather(1, graph), similarity.topk(2).values)


@pytest.mark.parametrize('k', [1, 3, 6])
def test_a_row_with_duplicates_is_never_its_own_neighbour(k):
    bank = unit_rows(4, 3, seed=2).repeat(5, 1)
    graph = knn_graph(bank, k)
    assert not (graph == torch.arange(20)[:, None]).any()
    assert all(len(set(row)) == k for row in graph.tolist())
    # The duplicates come first: a row and its neighbours have the same place in the block of 4.
    assert (graph[:, :4] % 4 == torch.arange(20)[:, None] % 4).all()


@pytest.mark.parametrize('k', [0, 6])
def test_k_out_of_range_names_the_range(k):
    with pytest.raises(ValueError, match=rf'k = {k} is outside the valid range 1 to 5'):
        knn_graph(POINTS, k)


@pytest.mark.parametrize(
    ('k', 'hops', 'expected'),
    [
        (1, 1, [[1], [0], [1], [4], [3], [4]]),
        (1, 2, [[1], [0], [0, 1], [4], [3], [3, 4]]),
        (1, 3, [[1], [0], [0, 1], [4], [3], [3, 4]]),
        (2, 1, [[1, 2], [0, 2], [0, 1], [2, 4], [2, 3], [3, 4]]),
        (2, 2, [[1, 2], [0, 2], [0, 1], [0, 1, 2, 4], [0, 1, 2, 3], [2, 3, 4]]),
        (2, 3, [[1, 2], [0, 2], [0, 1], [0, 1, 2, 4], [0, 1, 2, 3], [0, 1, 2, 3, 4]]),
    ],
)
def test_golden_positives(k, hops, expected):
    assert sets(knn_graph(POINTS, k), hops) == expected


def test_golden_positives_of_a_directed_chain():
    assert sets(CHAIN, 3) == [[1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5], [5], [4]]


@pytest.mark.parametrize(
    ('k', 'expected'),
    [
        (1, [[1, 0], [0, 1], [1, 0], [4, 3], [3, 4], [4, 3]]),
        (
            2,
            [
                [1, 2, 0, 2, 1, 0],
                [0, 2, 1, 2, 1, 0],
                [1, 0, 0, 2, 1, 2],
                [4, 2, 3, 2, 1, 0],
                [3, 2, 4, 2, 1, 0],
                [4, 3, 3, 2, 4, 2],
            ],
        ),
    ],
)
def test_golden_concatenation(k, expected):
    index, mask = propagate(knn_graph(POINTS, k), torch.arange(6), hops=2, mode='concat')
    assert index.tolist() == expected
    assert mask.all()


def test_golden_concatenation_of_three_hops():
    index, _ = propagate(knn_graph(POINTS, 2), torch.tensor([5]), hops=3, mode='concat')
    assert index.tolist() == [[4, 3, 3, 2, 4, 2, 4, 2, 1, 0, 3, 2, 1, 0]]


@pytest.mark.parametrize('gaps', [False, True])
@pytest.mark.parametrize(('k', 'hops'), [(1, 1), (1, 5), (2, 3), (4, 3), (5, 2)])
def test_set_is_breadth_first_search(k, hops, gaps):
    graph = random_graph(40, k, gaps, seed=10 * k + hops)
    anchor = torch.randperm(40, generator=torch.Generator().manual_seed(3))[:25]
    index, mask = propagate(graph, anchor, hops)
    length = sum(k**hop for hop in range(1, hops + 1))
    assert index.shape == mask.shape == (25, length)
    for start, row, keep in zip(anchor.tolist(), index, mask, strict=True):
        found = row[keep].tolist()
        assert found == sorted(reference.within(graph.tolist(), start, hops))
        assert row[: len(found)].tolist() == found, 'valid entries stand first'
        assert not row[~keep].any(), 'masked entries are 0'


@pytest.mark.parametrize('gaps', [False, True])
@pytest.mark.parametrize(('k', 'hops'), [(1, 4), (3, 1), (3, 3)])
def test_concat_is_all_walks_in_order(k, hops, gaps):
    graph = random_graph(20, k, gaps, seed=100 * k + hops)
    index, mask = propagate(graph, torch.arange(20), hops, mode='concat')
    assert index.size(1) == sum(k**hop for hop in range(1, hops + 1))
    for start in range(20):
        expected = reference.walks(graph.tolist(), start, hops)
        assert index[start, mask[start]].tolist() == expected
    assert not index[~mask].any()


def test_a_graph_never_filled_has_no_positives():
    for mode in ('set', 'concat'):
        _, mask = propagate(torch.full((6, 3), -1), torch.arange(6), hops=2, mode=mode)
        assert not mask.any()


def test_one_hop_is_the_neighbour_list():
    graph = knn_graph(unit_rows(50, 6, seed=4), 4)
    index, mask = propagate(graph, torch.arange(50), hops=1, mode='concat')
    assert torch.equal(index, graph) and mask.all()
    assert sets(graph, 1) == graph.sort(dim=1).values.tolist()


@pytest.mark.parametrize('hops', [0, -1])
def test_hops_below_one_are_refused(hops):
    with pytest.raises(
        ValueError, match=rf'hops = {hops} is not valid. It must be an integer from 1 to 16'
    ):
        propagate(CHAIN, torch.tensor([0]), hops)


def test_unknown_mode_lists_the_modes():
    with pytest.raises(
        ValueError, match="mode = 'bfs' is not valid. It must be one of 'set', 'concat'"
    ):
        propagate(CHAIN, torch.tensor([0]), 1, mode='bfs')


@pytest.mark.parametrize(
    ('anchor', 'expected'),
    [(7, [5, 3, 9, 1]), (9, [7, 3, 5, 1]), (5, [7, 3, 9, 1]), (8, [7, 3, 9, 1])],
)
def test_golden_row_refresh(anchor, expected):
    index = torch.tensor([[7, 3, 9, 1, 5]])
    similarity = index / 10
    kept, alike = exclude_anchor(index, torch.tensor([anchor]), similarity)
    assert kept.tolist() == [expected]
    assert torch.equal(alike, kept / 10)


def test_exclude_anchor_treats_rows_apart():
    index = torch.tensor([[7, 3, 9, 1, 5], [1, 7, 2, 3, 4]])
    (kept,) = exclude_anchor(index, torch.tensor([3, 3]))
    assert kept.tolist() == [[7, 5, 9, 1], [1, 7, 2, 4]]


def test_too_long_a_walk_is_refused_before_it_starts():
    neighbours = torch.zeros(5, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match='walks = 1398100 is outside the valid range 1 to 1048576'):
        propagate(neighbours, torch.tensor([0]), hops=10)
