"""The step of InvP against its parts with the rows of a sorted brute-force search."""

import dataclasses
import importlib

import pytest
import torch

from mmselfsup_invp.ops import (
    HardSampling,
    Neighbours,
    Positives,
    instance_loss,
    invp_step,
    knn_graph,
    propagate,
    propagation_loss,
    top_m,
)

from .tools import POINTS, on_circle, unit_rows

ROWS, M = 40, 6
SAMPLING = HardSampling(0.3, M, num_hard=3)
# The rank of each anchor among all rows: well inside, on either side of the limits, far outside.
RANKS = [0, 1, M - 1, M, M + 1, M + 2, ROWS - 1]


def problem(seed=0):
    """Queries whose anchors have the ranks :data:`RANKS`, the bank, and positives."""
    bank, query = unit_rows(ROWS, 6, seed=seed), unit_rows(len(RANKS), 6, seed=seed + 1)
    order = (query.double() @ bank.double().T).argsort(dim=1, descending=True)
    anchor = order[torch.arange(len(RANKS)), torch.tensor(RANKS)]
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randperm(ROWS, generator=generator)[:8] for _ in RANKS])
    index[:, :2] = order[:, 1:3]  # Some are among the nearest.
    mask = torch.rand(index.shape, generator=generator) < 0.7
    mask &= index != anchor[:, None]
    mask[:, 2:] &= (index[:, 2:, None] != index[:, None, :2]).all(dim=2)
    mask[2] = False  # An image without positives.
    return query, bank, anchor, Positives(index, mask), order


def others_of(order, anchor, count):
    """The nearest rows of each query other than its anchor."""
    return torch.stack([row[row != own][:count] for row, own in zip(order, anchor, strict=True)])


def expected_losses(query, bank, anchor, positive, order, sampling):
    """Both mean losses from a full sort."""
    if sampling.num_background is None:
        others = ranked = None
    else:
        rows = (
            others_of(order, anchor, sampling.num_background),
            order[:, : sampling.num_background],
        )
        others, ranked = (Neighbours((query @ bank.T).gather(1, index), index) for index in rows)
    nearest = others if sampling.instance_background == 'exact' else ranked
    instance = instance_loss(query, bank, anchor, nearest, sampling)
    uses_others = dict(exact=True, topm=sampling.exclusive, official=False)[sampling.background]
    nearest = others if uses_others else ranked
    each = propagation_loss(query, bank, anchor, nearest, positive, sampling)
    return instance.mean(), each[positive.mask.any(dim=1)].mean()


def assert_step(sampling, seed=0, **options):
    """Check both losses, their gradients and the neighbours."""
    query, bank, anchor, positive, order = problem(seed)
    ours, theirs = query.clone().requires_grad_(), query.clone().requires_grad_()
    step = invp_step(ours, bank, anchor, positive, sampling, **options)
    expected = expected_losses(theirs, bank, anchor, positive, order, sampling)
    for one, other in zip((step.instance, step.propagation), expected, strict=True):
        torch.testing.assert_close(one, other)
        gradients = [
            torch.autograd.grad(value, leaf, retain_graph=True)[0]
            for value, leaf in ((one, ours), (other, theirs))
        ]
        torch.testing.assert_close(*gradients)
    neighbours = others_of(order, anchor, options.get('num_neighbours', 4))
    assert step.neighbours.sort(dim=1).values.equal(neighbours.sort(dim=1).values)
    assert step.positive is positive


@pytest.mark.parametrize('exclusive', [True, False])
@pytest.mark.parametrize('eps', [0.0, 1e-7, 0.1])
@pytest.mark.parametrize('instance_background', ['exact', 'topm'])
@pytest.mark.parametrize('background', ['exact', 'topm', 'official'])
@pytest.mark.parametrize('num_background', [M, ROWS - 1, ROWS, 10 * ROWS, None])
def test_losses_are_those_of_a_sorted_search(
    num_background, background, instance_background, eps, exclusive
):
    """Wherever the anchor ranks, and also if M reaches the size of the bank."""
    sampling = HardSampling(
        0.3, num_background, 3, 'hard', background, exclusive, instance_background, eps
    )
    assert_step(sampling)
    assert_step(sampling, seed=10)


@pytest.mark.parametrize(
    'options', [dict(min_width=M + 2), dict(min_width=500), dict(num_neighbours=9)]
)
@pytest.mark.parametrize('background', ['exact', 'topm', 'official'])
def test_a_wider_search_does_not_change_the_losses(background, options):
    assert_step(dataclasses.replace(SAMPLING, background=background), **options)


@pytest.mark.parametrize('hard_pos', ['hard', 'easy', 'all'])
def test_positives_are_chosen_by_name(hard_pos):
    assert_step(dataclasses.replace(SAMPLING, hard_pos=hard_pos))


def test_random_positives_follow_the_global_seed():
    query, bank, anchor, positive, _ = problem()
    sampling = dataclasses.replace(SAMPLING, hard_pos='random', num_hard=1)
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(invp_step(query, bank, anchor, positive, sampling).propagation)
    assert values[0] == values[1] != values[2]


def test_the_bank_is_searched_once_and_its_rows_are_read_once(monkeypatch):
    """One search; besides it forward reads the anchors and the positives."""
    query, bank, anchor, positive, _ = problem()
    widths, read = [], []
    monkeypatch.setattr(
        'mmselfsup_invp.ops.invp.top_m',
        lambda query, bank, m, **options: widths.append(m) or top_m(query, bank, m, **options),
    )
    name = 'mmselfsup_invp.ops.similarity.gathered_products'
    gather = importlib.import_module('mmselfsup_invp.ops.similarity').gathered_products
    monkeypatch.setattr(name, lambda *args: read.append(args[2].size(1)) or gather(*args))
    invp_step(query, bank, anchor, positive, SAMPLING)
    assert widths == [M + 1] and sorted(read) == [1, 8]


def test_positives_may_be_found_from_the_search():
    query, bank, anchor, positive, order = problem()
    given = []

    def find(nearest, neighbours):
        given.append((nearest, neighbours))
        return positive

    step = invp_step(query, bank, anchor, find, SAMPLING, num_neighbours=3, min_width=12)
    ((nearest, neighbours),) = given
    assert nearest.index.sort(dim=1).values.equal(order[:, :12].sort(dim=1).values)
    assert neighbours is step.neighbours and neighbours.shape == (len(RANKS), 3)
    expected = invp_step(query, bank, anchor, positive, SAMPLING)
    assert step.propagation == expected.propagation and step.positive is positive


@pytest.mark.parametrize('positive', [None, lambda nearest, neighbours: None])
def test_without_positives_there_is_no_propagation_loss(positive):
    query, bank, anchor, found, _ = problem()
    step = invp_step(query, bank, anchor, positive, SAMPLING)
    assert step.propagation is None and step.positive is None
    expected = invp_step(query, bank, anchor, found, SAMPLING)
    assert step.instance == expected.instance
    assert torch.equal(step.neighbours, expected.neighbours)


def test_no_image_has_positives():
    """As in the first iteration of a run: zero without a gradient, and no division by zero."""
    query, bank, anchor, (index, mask), _ = problem()
    query.requires_grad_()
    step = invp_step(query, bank, anchor, Positives(index, torch.zeros_like(mask)), SAMPLING)
    assert step.propagation == 0
    assert not torch.autograd.grad(step.propagation, query)[0].any()


def test_the_gradient_stops_at_the_query():
    query, bank, anchor, positive, _ = problem()
    bank.requires_grad_()
    query.requires_grad_()
    step = invp_step(query, bank, anchor, positive, SAMPLING)
    (step.instance + step.propagation).backward()
    assert bank.grad is None and query.grad.abs().sum() > 0


def test_golden_update_of_the_graph():
    """A-G4: row 1 becomes [2, 0]; A-G6 gives the order."""
    anchor = torch.tensor([1])
    positive = propagate(knn_graph(POINTS, 2), anchor, hops=2)
    step = invp_step(on_circle(12), POINTS, anchor, positive, HardSampling(0.2), num_neighbours=2)
    assert step.neighbours.tolist() == [[2, 0]]


def test_golden_background_as_large_as_the_bank():
    """All 20 rows are in the official sum: none is dropped where M = N."""
    bank, query = unit_rows(20, 4, seed=3), unit_rows(1, 4, seed=4)
    anchor, positive = torch.tensor([5]), Positives(torch.tensor([[7]]), torch.tensor([[True]]))
    sampling = HardSampling(0.2, 20, background='official', instance_background='topm', eps=1e-7)
    step = invp_step(query, bank, anchor, positive, sampling)
    exps = (query.double() @ bank.double().T / 0.2).exp()[0]
    own, total = exps[5], exps.sum()
    torch.testing.assert_close(step.instance.double(), -(own / total + 1e-7).log())
    expected = -(exps[7] / (total - own) + 1e-7).log()
    torch.testing.assert_close(step.propagation.double(), expected)


def test_an_unusable_backend_is_refused():
    query, bank, anchor, positive, _ = problem()
    with pytest.raises(ValueError, match="backend = 'hnsw' is not valid"):
        invp_step(query, bank, anchor, positive, SAMPLING, backend='hnsw')
