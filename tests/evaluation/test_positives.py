import pytest

from mmselfsup_invp.evaluation import neighbours_by_hop
from mmselfsup_invp.ops import knn_graph

from .. import toy


def distances(neighbours, anchor):
    """Steps from the anchor to all rows that can be reached, by a breadth-first search."""
    steps, frontier = {anchor: 0}, [anchor]
    while frontier:
        row = frontier.pop(0)
        for target in neighbours[row].tolist():
            if target >= 0 and target not in steps:
                steps[target] = steps[row] + 1
                frontier.append(target)
    return steps


@pytest.fixture
def graph():
    neighbours = knn_graph(toy.rows(60, 4), 3)
    neighbours[::7] = -1  # Rows that were never filled.
    return neighbours


@pytest.mark.parametrize('anchor', [1, 20, 59])
@pytest.mark.parametrize('hops', [1, 3])
def test_hops_are_distances(graph, anchor, hops):
    steps = distances(graph, anchor)
    found = neighbours_by_hop(graph, anchor, hops)
    expected = [sorted(row for row in steps if steps[row] == hop) for hop in range(1, hops + 1)]
    assert [rows.tolist() for rows in found] == expected


def test_a_row_without_neighbours_has_no_positives(graph):
    assert [len(rows) for rows in neighbours_by_hop(graph, 7, 2)] == [0, 0]


@pytest.mark.parametrize('anchor', [-1, 60])
def test_an_anchor_outside_the_graph_is_refused(graph, anchor):
    with pytest.raises(ValueError, match=f'anchor = {anchor} is outside the valid range 0 to 59'):
        neighbours_by_hop(graph, anchor, hops=2)
