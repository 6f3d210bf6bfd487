import math

import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.ops.graph import mutual_edges
from mmselfsup_invp.ops.soft_propagation import WalkOptions, soft_cross_entropy, soft_walk

from .test_graph import random_graph
from .tools import unit_rows


def reference_walk(bank, graph, start, first, hops, temperature, branches, restart, edges):
    """Weights by row, from following every walk by itself."""
    found: dict[int, float] = {}

    def steps(row, ends):
        kept = [end for end in ends if end >= 0 and (edges == 'all' or row in graph[end])]
        kept.sort(key=lambda end: -float(bank[row] @ bank[end]))
        kept = kept[:branches]
        exps = [math.exp(float(bank[row] @ bank[end]) / temperature) for end in kept]
        return [(end, value / sum(exps)) for end, value in zip(kept, exps, strict=True)]

    def follow(row, weight, left):
        onward = steps(row, graph[row]) if left else []
        stays = weight * restart if onward else weight
        found[row] = found.get(row, 0) + stays
        for end, share in onward:
            follow(end, (weight - stays) * share, left - 1)

    for end, share in steps(start, first):
        follow(end, share, hops - 1)
    found.pop(start, None)
    return found


def distinct_graph(rows, k, gaps, seed):
    """A random graph without repeated edges, whose order among equals would be open."""
    generator = torch.Generator().manual_seed(seed)
    graph = torch.stack([torch.randperm(rows, generator=generator)[:k] for _ in range(rows)])
    if gaps:
        graph[torch.rand(rows, k, generator=generator) < 0.3] = -1
    return graph


@pytest.mark.parametrize('edges', ['all', 'mutual'])
@pytest.mark.parametrize(
    ('hops', 'branches', 'restart', 'gaps'),
    [
        (1, 5, 0.5, False),
        (2, 2, 0.3, True),
        (3, 3, 0.5, False),
        (3, 4, 0.0, True),
        (2, 3, 1.0, True),
    ],
)
def test_walk_is_the_slow_walk(edges, hops, branches, restart, gaps):
    bank, graph = unit_rows(12, 4, seed=1), distinct_graph(12, 5, gaps, seed=hops)
    anchor = torch.tensor([0, 7, 11, 7])
    first = distinct_graph(12, 5, gaps, seed=9)[anchor]
    options = WalkOptions(hops, 0.3, branches, restart, edges, trust=1)
    index, weight = soft_walk(bank, graph, anchor, options, first)
    assert index.shape == (4, sum(min(branches, 5) ** hop for hop in range(1, hops + 1)))
    found = torch.zeros(4, 12).scatter_add_(1, index, weight)
    lists = graph.tolist()
    for row, start in enumerate(anchor.tolist()):
        options = (hops, 0.3, branches, restart, edges)
        expected = reference_walk(bank, lists, start, first[row].tolist(), *options)
        dense = torch.zeros(12)
        for end, value in expected.items():
            dense[end] = value
        torch.testing.assert_close(found[row], dense)


@pytest.mark.parametrize('trust', [0.05, 0.3, 0.9])
def test_trusted_walk_is_that_on_the_most_similar_edges(trust):
    bank, graph, anchor = (
        unit_rows(12, 4, seed=1),
        distinct_graph(12, 4, True, seed=6),
        torch.arange(6),
    )
    graph = graph.masked_fill(graph == torch.arange(12)[:, None], -1)
    similarity = (bank @ bank.T).gather(1, graph.clamp(min=0)).masked_fill(graph < 0, -2)
    kept = max(round(trust * int((graph[:6] >= 0).sum())), 1)
    bound = similarity[:6].flatten().sort(descending=True).values[kept - 1]
    alone = graph.masked_fill(similarity < bound, -1)
    found = soft_walk(bank, graph, anchor, WalkOptions(3, 0.2, 3, trust=trust))
    expected = soft_walk(bank, alone, anchor, WalkOptions(3, 0.2, 3, trust=1))
    dense = [torch.zeros(6, 12).scatter_add_(1, *pair) for pair in (found, expected)]
    assert dense[0].any()
    torch.testing.assert_close(*dense)


def test_walk_starts_on_the_graph_unless_told_otherwise():
    bank, graph = unit_rows(10, 4, seed=0), distinct_graph(10, 3, False, seed=0)
    anchor = torch.arange(10)
    options = WalkOptions(trust=1)
    torch.testing.assert_close(
        soft_walk(bank, graph, anchor, options),
        soft_walk(bank, graph, anchor, options, first=graph),
    )


def test_an_unfilled_graph_gives_no_weight():
    graph = torch.full((6, 2), -1)
    weight = soft_walk(unit_rows(6, 3, seed=0), graph, torch.arange(6), WalkOptions(hops=3))[1]
    assert not weight.any()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(edges='both'), "one of 'all', 'mutual'"),
        (dict(hops=0), 'hops = 0 is not valid. It must be an integer from 1 to 16'),
        (dict(hops=16), r'branches \*\* hops = 152587890625 .* 1 to 1048576'),
        (dict(branches=0), 'branches = 0'),
        (dict(hops=2.0), 'hops = 2.0'),
        (dict(restart=1.5), 'restart = 1.5'),
        (dict(trust=0), 'trust = 0'),
        (dict(temperature=0), 'temperature = 0'),
    ],
)
def test_walk_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        WalkOptions(**changes)


def test_mutual_edges_are_those_that_link_back():
    graph = random_graph(20, 4, gaps=True, seed=3)
    source = torch.arange(20)
    lists = graph.tolist()
    expected = [[end >= 0 and row in lists[end] for end in lists[row]] for row in range(20)]
    assert mutual_edges(graph, source, graph).tolist() == expected


@pytest.mark.parametrize('hops', [1, 2, 3])
def test_propagation_on_mutual_edges_is_that_on_a_graph_of_them_alone(hops):
    graph = distinct_graph(20, 5, True, seed=4)
    anchor = torch.arange(20)
    alone = graph.masked_fill(~mutual_edges(graph, anchor, graph), -1)
    found = ops.propagate(graph, anchor, hops, edges='mutual')
    expected = ops.propagate(alone, anchor, hops)
    assert found[1].any()
    torch.testing.assert_close(found, expected)


class TestSoftCrossEntropy:
    @pytest.fixture
    def problem(self):
        query = unit_rows(4, 6, seed=1).requires_grad_()
        bank = unit_rows(15, 6, seed=2)
        index = torch.tensor([[0, 3, 3], [1, 2, 4], [5, 6, 7], [14, 0, 0]])
        target = torch.rand(4, 3, generator=torch.Generator().manual_seed(3))
        return query, bank, index, target

    @pytest.mark.parametrize('whole', [True, False])
    def test_is_the_cross_entropy_of_a_dense_softmax(self, problem, whole):
        query, bank, index, target = problem
        background = None if whole else torch.arange(8).repeat(4, 1)
        if not whole:
            background[3, 0] = 14
            background[3, 7] = 0
        loss = soft_cross_entropy(query, bank, index, target, background, 0.2)
        (grad,) = torch.autograd.grad(loss.sum(), query)

        logit = query @ bank.T / 0.2
        if not whole:
            inside = torch.zeros(4, 15).scatter_(1, background, 1).bool()
            logit = logit.masked_fill(~inside, -torch.inf)
        chosen = logit.log_softmax(1).gather(1, index)
        expected = -(target * chosen).sum(1)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), query)[0])
