import math
import re

import pytest
import torch

from mmselfsup_invp.evaluation import GraphHealth, graph_health, neighbour_purity

from .. import toy

# Two triangles and a pair that points at the first triangle.
TRIANGLES = [[1, 2], [2, 0], [0, 1], [4, 5], [5, 3], [3, 4], [7, 0], [6, 0]]


def health_of(neighbours, bank=None):
    neighbours = torch.tensor(neighbours)
    return graph_health(toy.rows(len(neighbours)) if bank is None else bank, neighbours)


class TestFigures:
    def test_a_whole_graph(self):
        health = health_of(TRIANGLES)
        assert health.unfilled == 0
        assert health.largest_in_degree == 4  # Row 0: of 1, 2, 6 and 7.
        assert health.num_components == 2  # Direction does not count: 6 and 7 join the first.
        assert health.largest_component == pytest.approx(5 / 8)
        assert health.degree == 2

    def test_unfilled_rows(self):
        graph = [row if i not in (3, 4, 5, 6) else [-1, -1] for i, row in enumerate(TRIANGLES)]
        health = health_of(graph)
        assert health.unfilled == 0.5
        # Row 6 has an edge in, though none out; rows 3 to 5 have neither.
        assert health.num_components == 1 and health.largest_component == 1
        assert health.largest_in_degree == 3

    def test_partly_filled_rows_are_filled(self):
        health = health_of([[1, -1], [-1, 2], [-1, -1]])
        assert health.unfilled == pytest.approx(1 / 3)
        assert health.num_components == 1 and health.largest_in_degree == 1

    def test_an_empty_graph(self):
        health = health_of([[-1, -1]] * 4)
        assert health.unfilled == 1 and health.num_components == 0
        assert health.largest_component == 0 and health.largest_in_degree == 0

    def test_a_hub(self):
        graph = [[0, (i + 1) % 9 or 1] for i in range(9)]
        graph[0] = [1, 2]
        assert health_of(graph).largest_in_degree == 8

    def test_components_equal_a_search(self):
        generator = torch.Generator().manual_seed(0)
        neighbours = torch.randint(60, (60, 1), generator=generator)
        neighbours[torch.randperm(60, generator=generator)[:15]] = -1
        links = {row: set() for row in range(60)}
        for row, (other,) in enumerate(neighbours.tolist()):
            if other >= 0:
                links[row].add(other)
                links[other].add(row)
        sizes, seen = [], set()
        for row in range(60):
            if links[row] and row not in seen:
                queue = [row]
                for node in queue:
                    queue += [other for other in links[node] if other not in queue]
                seen |= set(queue)
                sizes.append(len(queue))
        health = graph_health(toy.rows(60), neighbours)
        assert health.num_components == len(sizes) > 1
        assert health.largest_component == pytest.approx(max(sizes) / sum(sizes))

    def test_mean_norm_tells_a_collapse(self):
        spread = torch.eye(8)
        spread = torch.cat([spread, -spread])
        graph = [[(i + 1) % 16] for i in range(16)]
        assert health_of(graph, spread).mean_norm == pytest.approx(0, abs=1e-6)
        one = toy.rows(1).expand(16, -1)
        assert health_of(graph, one).mean_norm == pytest.approx(1)
        two = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(8, 1)
        assert health_of(graph, two).mean_norm == pytest.approx(math.sqrt(0.5))

    def test_all_are_logged_but_the_degree(self):
        assert list(health_of(TRIANGLES).metrics()) == [
            'unfilled',
            'largest_in_degree',
            'mean_norm',
            'num_components',
            'largest_component',
        ]


class TestWarnings:
    FINE = dict(
        unfilled=0.05,
        largest_in_degree=200,
        mean_norm=0.9,
        num_components=3,
        largest_component=0.5,
        degree=4,
    )

    def test_none_within_the_limits(self):
        assert GraphHealth(**self.FINE).warnings() == []

    @pytest.mark.parametrize(
        ('fault', 'message'),
        [
            (dict(unfilled=0.06), '6% of the rows .* unfilled.*sampler'),
            (dict(largest_in_degree=201), 'neighbour of 201 others.*num_neighbours.*ramp_epochs'),
        ],
    )
    def test_name_the_fault_and_the_knob(self, fault, message):
        (found,) = GraphHealth(**{**self.FINE, **fault}).warnings()
        assert re.search(message, found), found

    def test_a_hub_is_measured_against_the_degree(self):
        health = GraphHealth(**{**self.FINE, 'degree': 8, 'largest_in_degree': 399})
        assert health.warnings() == []


class TestPurity:
    def purity_by_loops(self, neighbours, label, hops, anchors):
        expected = {}
        for hop in range(1, hops + 1):
            same = []
            for anchor in anchors:
                reached, frontier = set(), {anchor}
                for _ in range(hop):
                    frontier = {j for i in frontier for j in neighbours[i] if j >= 0}
                    reached |= frontier
                same += [label[j] == label[anchor] for j in reached - {anchor}]
            if same:
                expected[f'purity_hop{hop}'] = 100 * sum(same) / len(same)
        return expected

    def test_equals_loops(self):
        generator = torch.Generator().manual_seed(1)
        neighbours = torch.randint(-1, 40, (40, 3), generator=generator)
        label = torch.randint(3, (40,), generator=generator)
        anchor = torch.arange(0, 40, 3)
        found = neighbour_purity(neighbours, label, 3, anchor)
        expected = self.purity_by_loops(neighbours.tolist(), label.tolist(), 3, anchor.tolist())
        assert found == pytest.approx(expected)
        assert list(found) == ['purity_hop1', 'purity_hop2', 'purity_hop3']

    def test_of_a_graph_made_by_hand(self):
        label = torch.tensor([0, 0, 0, 1, 1, 0, 1, 1])
        found = neighbour_purity(torch.tensor(TRIANGLES), label, 2, torch.tensor([3, 6]))
        # From 3: 4 (same), 5 (not). From 6: 7 (same), 0 (not), then 1 and 2 (not).
        assert found == pytest.approx(dict(purity_hop1=50, purity_hop2=100 / 3))

    def test_nothing_to_measure(self):
        neighbours = torch.tensor([[-1], [0], [-1]])
        label = torch.zeros(3, dtype=torch.int64)
        assert neighbour_purity(neighbours, label, 2, torch.tensor([0, 2])) == {}
        assert neighbour_purity(neighbours, label, 1, torch.arange(3)) == {'purity_hop1': 100}
