"""Both losses against their definitions, and their numerical properties."""

import sys

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.ops import (
    HardSampling,
    Neighbours,
    Positives,
    bank_similarity,
    instance_loss,
    propagate,
    propagation_loss,
    top_m,
)
from mmselfsup_invp.ops.positives import select_positives

from . import reference
from .tools import Allocations, found, unit_rows

EPS = 1e-7
BACKGROUNDS = ('exact', 'topm', 'official')

every_background = pytest.mark.parametrize('background', BACKGROUNDS)


class Batch:
    """Random queries near their rows, positives of all kinds, and the result of a search.

    Row 0 has no positives; the last query is far from its own row.
    """

    def __init__(self, dtype=torch.float32, concat=False, width=8):
        generator = torch.Generator().manual_seed(0)
        self.bank = unit_rows(30, 6, seed=1).to(dtype)
        self.anchor = torch.randperm(30, generator=generator)[:6]
        noise = torch.randn(6, 6, generator=generator) * 0.3
        query = self.bank[self.anchor].float() + noise
        query[-1] *= -1
        self.query = F.normalize(query).requires_grad_()
        graph = torch.randint(0, 30, (30, 3), generator=generator)
        mode = 'concat' if concat else 'set'
        self.positive = propagate(graph, self.anchor, hops=2, mode=mode)
        self.positive.mask[0] = False
        self.nearest = top_m(self.query, self.bank, width)

    def losses(self, temperature, background, eps=0.0, generator=None, **options):
        """Both losses of the batch."""
        instance_background = 'exact' if background == 'exact' else 'topm'
        sampling = HardSampling(
            temperature,
            background=background,
            instance_background=instance_background,
            eps=eps,
            **options,
        )
        arguments = self.query, self.bank, self.anchor, self.nearest
        return (
            instance_loss(*arguments, sampling),
            propagation_loss(*arguments, self.positive, sampling, generator=generator),
        )

    def references(self, temperature, background, eps, num_hard, hard_pos, exclusive, seed=None):
        """The same from the definitions, with the float64 query they depend on."""
        query, bank = self.query.detach().double().requires_grad_(), self.bank.double()
        index, mask = self.positive
        if hard_pos == 'random':
            candidate = bank_similarity(self.query, self.bank, index)
            generator = torch.Generator().manual_seed(seed)
            drawn = select_positives(candidate, mask, num_hard, hard_pos, generator)
        instance, propagation = [], []
        for b, anchor in enumerate(self.anchor.tolist()):
            rows = None if self.nearest is None else self.nearest.index[b].tolist()
            positive = index[b][mask[b]].tolist()
            if hard_pos == 'random':
                chosen = index[b][drawn[b][mask[b][drawn[b]]]].tolist()
            else:
                similarity = [(query[b] @ bank[row]).item() for row in positive]
                order = reference.choose(similarity, num_hard, hard_pos)
                chosen = [positive[position] for position in order]
            common = rows, temperature, background
            instance.append(reference.instance_loss(query[b], bank, anchor, *common, eps))
            propagation.append(
                reference.propagation_loss(
                    query[b], bank, anchor, positive, chosen, *common, exclusive, eps
                )
            )
        return query, torch.stack(instance), torch.stack(propagation)


def assert_agree(batch: Batch, temperature: float, ours, references) -> None:
    """Compare values and gradients, each row of each loss weighted differently."""
    query, *theirs = references
    for mine, plain in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, plain.float(), rtol=2e-5, atol=2e-6 / temperature)
        weight = torch.arange(1.0, 7)
        (grad,) = torch.autograd.grad((mine * weight).sum(), batch.query, retain_graph=True)
        (expected,) = torch.autograd.grad((plain * weight).sum(), query)
        torch.testing.assert_close(grad, expected.float(), rtol=1e-4, atol=1e-5 / temperature)


@pytest.mark.parametrize(
    ('temperature', 'eps'), [(0.02, 0.0), (0.07, EPS), (0.2, 0.0), (0.2, 0.1), (1.0, EPS)]
)
@pytest.mark.parametrize('exclusive', [True, False])
@pytest.mark.parametrize('hard_pos', ['hard', 'easy', 'random', 'all'])
@pytest.mark.parametrize('background', [*BACKGROUNDS, 'full'])
def test_losses_and_gradients_are_the_definitions(
    background, hard_pos, exclusive, eps, temperature
):
    """At t = 0.02 the subtraction of the official code would lose all digits in float32."""
    batch = Batch()
    if background == 'full':
        background, batch.nearest = 'topm', None
    options = dict(num_hard=3, hard_pos=hard_pos, exclusive=exclusive)
    generator = torch.Generator().manual_seed(4)
    ours = batch.losses(temperature, background, eps, generator, **options)
    theirs = batch.references(temperature, background, eps, **options, seed=4)
    assert_agree(batch, temperature, ours, theirs)


@every_background
@pytest.mark.parametrize('num_hard', [1, 5, 50])
def test_repeated_positives_are_the_definitions(background, num_hard):
    batch = Batch(concat=True)
    ours = batch.losses(0.2, background, EPS, num_hard=num_hard)
    theirs = batch.references(0.2, background, EPS, num_hard, 'hard', exclusive=True)
    assert_agree(batch, 0.2, ours, theirs)


@every_background
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_banks_are_the_definitions(background, dtype):
    batch = Batch(dtype)
    ours = batch.losses(0.2, background, num_hard=3)
    assert all(loss.dtype == torch.float32 for loss in ours)
    assert_agree(batch, 0.2, ours, batch.references(0.2, background, 0, 3, 'hard', exclusive=True))


@every_background
def test_low_temperature_does_not_overflow(background):
    """exp(1 / 0.01) exceeds float32."""
    batch = Batch()
    ours = batch.losses(0.01, background, num_hard=3)
    theirs = batch.references(0.01, background, 0, 3, 'hard', exclusive=True)
    assert theirs[1].max() > 50
    assert_agree(batch, 0.01, ours, theirs)


@every_background
@pytest.mark.parametrize('eps', [0.0, EPS])
def test_rows_without_positives_give_zero_and_no_gradient(background, eps):
    batch = Batch()
    batch.positive.mask[2] = False
    with torch.autograd.set_detect_anomaly(True):  # Raises at any NaN in the backward pass.
        _, loss = batch.losses(0.07, background, eps, num_hard=3)
        (grad,) = torch.autograd.grad(loss.sum(), batch.query)
    assert loss[[0, 2]].tolist() == [0, 0]
    assert not grad[[0, 2]].any()
    assert grad[[1, 3, 4, 5]].abs().sum(dim=1).min() > 0
    assert grad.isfinite().all()


def test_no_positives_at_all():
    batch = Batch()
    batch.positive.mask[:] = False
    _, loss = batch.losses(0.07, 'exact')
    (grad,) = torch.autograd.grad(loss.sum(), batch.query)
    assert not loss.any() and not grad.any()


def test_a_background_of_positives_alone_gives_zero():
    """Numerator and denominator are the same positives."""
    batch = Batch()
    index = batch.nearest.index
    batch.positive = Positives(index, torch.ones_like(index, dtype=torch.bool))
    _, loss = batch.losses(0.07, 'exact', hard_pos='all')
    (grad,) = torch.autograd.grad(loss.sum(), batch.query)
    assert not loss.any() and not grad.any()


def test_a_background_of_the_anchor_alone_gives_zero():
    """M = 1 and the anchor nearest: no other rows, with or without positives."""
    batch = Batch()
    batch.nearest = found(batch.query, batch.bank, batch.anchor[:, None])
    with torch.autograd.set_detect_anomaly(True):
        losses = batch.losses(0.07, 'exact', hard_pos='all')
        (grad,) = torch.autograd.grad(sum(losses).sum(), batch.query)
    assert not torch.stack(losses).any() and not grad.any()


@every_background
def test_shared_similarities_change_nothing(background):
    """Similarities with a gradient, which both losses share, in place of those of the search."""
    batch = Batch()
    alone = batch.losses(0.07, background)
    similarity, index = batch.nearest
    shared = bank_similarity(batch.query, batch.bank, index, similarity)
    batch.nearest = Neighbours(shared, index)
    given = batch.losses(0.07, background)
    for left, right in zip(alone, given, strict=True):
        assert torch.equal(left, right)
    grads = [torch.autograd.grad(sum(pair).sum(), batch.query)[0] for pair in (alone, given)]
    torch.testing.assert_close(*grads)


def test_the_similarities_of_the_search_are_not_computed_again(monkeypatch):
    batch = Batch()
    read = []
    similarity = sys.modules['mmselfsup_invp.ops.similarity']
    gather = similarity.gathered_products
    monkeypatch.setattr(
        similarity, 'gathered_products', lambda *args: read.append(args[2].size(1)) or gather(*args)
    )
    batch.losses(0.07, 'exact')
    assert sorted(read) == [1, batch.positive.index.size(1)]


@pytest.mark.parametrize('exclusive', [True, False])
def test_full_bank_is_a_background_of_all_rows(exclusive):
    batch = Batch()
    batch.nearest = found(batch.query, batch.bank, torch.arange(30).expand(6, 30))
    listed = batch.losses(0.07, 'topm', exclusive=False)
    batch.nearest = None
    full = batch.losses(0.07, 'topm', exclusive=exclusive)
    for left, right in zip(listed, full, strict=True):
        torch.testing.assert_close(left, right)
        grads = [torch.autograd.grad(loss.sum(), batch.query)[0] for loss in (left, right)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


def test_the_anchor_counts_once_wherever_it_ranks():
    batch = Batch()
    without = top_m(batch.query, batch.bank, 8, exclude=batch.anchor).index
    with_anchor = torch.cat([batch.anchor[:, None], without], dim=1)
    losses = []
    for index in (without, with_anchor):
        batch.nearest = found(batch.query, batch.bank, index)
        losses.append(batch.losses(0.07, 'exact')[0])
    torch.testing.assert_close(*losses)


def test_gradient_flows_to_the_query_alone():
    batch = Batch()
    batch.bank.requires_grad_()
    for nearest in (batch.nearest, None):
        batch.nearest = nearest
        batch.query.grad = None
        sum(batch.losses(0.07, 'exact')).sum().backward()
        assert batch.bank.grad is None
        assert batch.query.grad.abs().sum() > 0


@every_background
def test_autocast_does_not_lower_the_precision(background):
    batch = Batch(torch.bfloat16)
    expected = batch.losses(0.07, background)
    with torch.autocast('cpu', torch.bfloat16):
        ours = batch.losses(0.07, background)
    for left, right in zip(ours, expected, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize('background', [*BACKGROUNDS, 'full'])
def test_no_matrix_of_batch_by_bank_is_made(background):
    """Forward and backward, from the search on, with N far above M."""
    rows, queries = 100_000, 64
    bank = unit_rows(rows, 4, seed=5)
    query = unit_rows(queries, 4, seed=6).requires_grad_()
    anchor = torch.arange(queries)
    graph = torch.randint(0, rows, (rows, 3), generator=torch.Generator().manual_seed(7))
    sampling = HardSampling(0.1, background='exact' if background == 'full' else background)
    with Allocations() as allocations:
        nearest = None if background == 'full' else top_m(query, bank, 32, sort=False)
        positive = propagate(graph, anchor, hops=2)
        instance = instance_loss(query, bank, anchor, nearest, sampling)
        propagation = propagation_loss(query, bank, anchor, nearest, positive, sampling)
        (instance + propagation).sum().backward()
    assert query.grad.abs().sum() > 0
    assert allocations.largest < queries * rows / 2
