import math

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.ops import (
    bank_similarity,
    instance_loss,
    knn_graph,
    propagate,
    propagation_loss,
    ramp_weight,
    select_positives,
    top_m,
)

from . import reference
from .tools import POINTS, Allocations, on_circle, unit_rows

EPS = 1e-7
ANCHOR = torch.tensor([1])
GRAPH = knn_graph(POINTS, 2)
# N_M(1) of the paper, and the four nearest of the released code, which count the anchor.
PAPER, CODE = torch.tensor([[0, 2, 3, 4]]), torch.tensor([[1, 0, 2, 3]])


def golden(value: torch.Tensor, expected: float) -> None:
    """Six digits are stated; float32 keeps about that many."""
    torch.testing.assert_close(value.item(), expected, rtol=2e-6, atol=1e-6)


def golden_propagation(background, temperature=0.2, concat=False, **kwargs):
    positive, mask = propagate(GRAPH, ANCHOR, hops=2, mode='concat' if concat else 'set')
    return propagation_loss(
        on_circle(12), POINTS, ANCHOR, positive, mask, background, temperature, **kwargs
    )


def test_golden_backgrounds_are_what_the_search_finds():
    query = on_circle(12)
    assert top_m(query, POINTS, 4, exclude=ANCHOR)[1].sort(dim=1).values.equal(PAPER)
    assert top_m(query, POINTS, 4)[1].tolist() == CODE.tolist()


@pytest.mark.parametrize(
    ('background', 'kwargs', 'expected'),
    [
        (PAPER, {}, 1.027961),
        # The search of a head may hold the anchor: it is counted once all the same.
        (torch.tensor([[1, 0, 2, 3, 4]]), {}, 1.027961),
        (CODE, {'background_mode': 'topm', 'eps': EPS}, 1.025928),
        (None, {}, 1.027978),
    ],
)
def test_golden_instance_loss(background, kwargs, expected):
    golden(instance_loss(on_circle(12), POINTS, ANCHOR, background, 0.2, **kwargs), expected)


def test_golden_instance_loss_at_low_temperature():
    golden(instance_loss(on_circle(12), POINTS, ANCHOR, PAPER, 0.07), 0.891061)


@pytest.mark.parametrize(
    ('num_hard', 'hard', 'expected'),
    [
        (1, 'hard', 0.015432),
        (1, 'easy', 0.015146),
        (2, 'hard', 0.007673),
        (50, 'hard', 0.007673),
        (1, 'all', 0.007673),
    ],
)
def test_golden_propagation_loss_of_the_paper(num_hard, hard, expected):
    golden(golden_propagation(PAPER, num_hard=num_hard, hard=hard), expected)


def test_golden_hard_set_over_all_the_nearest():
    golden(golden_propagation(PAPER, num_hard=1, background_mode='topm'), 0.710309)


def test_golden_positives_over_the_full_bank():
    golden(golden_propagation(None, hard='all'), 0.450446)


@pytest.mark.parametrize('mode', ['topm', 'official'])
@pytest.mark.parametrize(
    ('num_hard', 'hard', 'exclusive', 'expected'),
    [
        (1, 'hard', True, 0.707142),
        (1, 'hard', False, 1.151031),
        (1, 'easy', True, 0.582038),
        (2, 'hard', True, 0.013995),
        (2, 'hard', False, 0.457884),
        (2, 'easy', True, -0.111109),
        (4, 'hard', True, -0.688641),
        (4, 'hard', False, -0.244751),
        (4, 'easy', True, -0.752558),
    ],
)
def test_golden_propagation_loss_of_the_code(num_hard, hard, exclusive, expected, mode):
    loss = golden_propagation(
        CODE,
        concat=True,
        num_hard=num_hard,
        hard=hard,
        background_mode=mode,
        exclusive=exclusive,
        eps=EPS,
    )
    golden(loss, expected)


@pytest.mark.parametrize(
    ('num_hard', 'exclusive', 'expected'),
    [(1, True, 0.720494), (1, False, 1.248500), (4, True, -0.693147)],
)
def test_golden_code_at_low_temperature(num_hard, exclusive, expected):
    loss = golden_propagation(
        CODE,
        temperature=0.07,
        concat=True,
        num_hard=num_hard,
        background_mode='official',
        exclusive=exclusive,
        eps=EPS,
    )
    golden(loss, expected)


def test_golden_loss_near_zero_keeps_its_digits():
    loss = golden_propagation(PAPER, temperature=0.07, num_hard=1)
    torch.testing.assert_close(loss.item(), 2.031016e-6, rtol=1e-5, atol=0)


def test_golden_gradient():
    feature = on_circle(12).requires_grad_()
    positive, mask = propagate(GRAPH, ANCHOR, hops=2)
    propagation_loss(
        F.normalize(feature), POINTS, ANCHOR, positive, mask, PAPER, 0.2, num_hard=1
    ).sum().backward()
    expected = torch.tensor([[-0.012329, 0.058003]])
    torch.testing.assert_close(feature.grad, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ('num_hard', 'epoch', 'expected'), [(1, 31, 1.037220), (1, 30, 1.027961), (2, 31, 1.032564)]
)
def test_golden_total(num_hard, epoch, expected):
    instance = instance_loss(on_circle(12), POINTS, ANCHOR, PAPER, 0.2)
    propagation = golden_propagation(PAPER, num_hard=num_hard)
    golden(instance + 0.6 * ramp_weight('binary', epoch) * propagation, expected)


class TestOutsideTheNearest:
    """Anchor and positive rank below the M nearest: s_self = 0.2, others 0.9, 0.8, 0.7, M = 2."""

    bank = torch.tensor([[s, math.sqrt(1 - s * s)] for s in (0.2, 0.9, 0.8, 0.7)])
    query = torch.tensor([[1.0, 0.0]])
    anchor, background = torch.tensor([0]), torch.tensor([[1, 2]])
    positive, mask = torch.tensor([[3]]), torch.tensor([[True]])

    @pytest.mark.parametrize(
        ('mode', 'eps', 'expected'), [('exact', 0, 2.125289), ('topm', EPS, 1.998138)]
    )
    def test_golden_instance_loss(self, mode, eps, expected):
        loss = instance_loss(
            self.query, self.bank, self.anchor, self.background, 0.5, background_mode=mode, eps=eps
        )
        golden(loss, expected)

    @pytest.mark.parametrize(
        ('mode', 'eps', 'expected'),
        [('exact', 0, 1.311901), ('topm', 0, 0.998139), ('official', EPS, 0.852434)],
    )
    def test_golden_propagation_loss(self, mode, eps, expected):
        loss = propagation_loss(
            self.query,
            self.bank,
            self.anchor,
            self.positive,
            self.mask,
            self.background,
            0.5,
            num_hard=1,
            background_mode=mode,
            eps=eps,
        )
        golden(loss, expected)


@pytest.mark.parametrize('loss', ['instance', 'propagation'])
def test_golden_cap(loss):
    """The largest value that eps leaves is -log(1e-7)."""
    bank, query = on_circle(180, 0, 0), on_circle(0)
    anchor, background, mask = torch.tensor([0]), torch.tensor([[1, 2]]), torch.tensor([[True]])
    if loss == 'instance':
        value = instance_loss(query, bank, anchor, background, 0.05, eps=EPS)
    else:
        value = propagation_loss(
            query, bank, torch.tensor([2]), anchor[None], mask, background, 0.05, eps=EPS
        )
    golden(value, 16.118096)


class Batch:
    """Random queries near their rows, positives of all kinds, and what a search finds.

    Row 0 has no positives, row 1 all of them, the last query lies far from its own row.
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
        self.positive, self.mask = propagate(graph, self.anchor, hops=2, mode=mode)
        self.mask[0] = False
        self.background = top_m(self.query, self.bank, width)[1]

    def losses(self, temperature, background_mode, eps, **kwargs):
        """Both losses of the batch, and the gradient of their squares' sum."""
        options = {'background_mode': background_mode, 'eps': eps}
        instance = instance_loss(
            self.query,
            self.bank,
            self.anchor,
            self.background,
            temperature,
            background_mode='exact' if background_mode == 'exact' else 'topm',
            eps=eps,
        )
        propagation = propagation_loss(
            self.query,
            self.bank,
            self.anchor,
            self.positive,
            self.mask,
            self.background,
            temperature,
            **options,
            **kwargs,
        )
        return instance, propagation

    def references(self, temperature, background_mode, eps, num_hard, hard, exclusive, seed=None):
        """The same from the definitions, with the float64 query they depend on."""
        query, bank = self.query.detach().double().requires_grad_(), self.bank.double()
        if hard == 'random':
            candidate = bank_similarity(self.query, self.bank, self.positive)
            drawn = select_positives(
                candidate, self.mask, num_hard, hard, torch.Generator().manual_seed(seed)
            )
        instance, propagation = [], []
        for b, anchor in enumerate(self.anchor.tolist()):
            background = None if self.background is None else self.background[b].tolist()
            positive = self.positive[b][self.mask[b]].tolist()
            if hard == 'random':
                kept = drawn[b][self.mask[b][drawn[b]]]
                chosen = self.positive[b][kept].tolist()
            else:
                similarity = [(query[b] @ bank[row]).item() for row in positive]
                order = reference.choose(similarity, num_hard, hard)
                chosen = [positive[position] for position in order]
            instance.append(
                reference.instance_loss(
                    query[b], bank, anchor, background, temperature, background_mode, eps
                )
            )
            propagation.append(
                reference.propagation_loss(
                    query[b],
                    bank,
                    anchor,
                    positive,
                    chosen,
                    background,
                    temperature,
                    background_mode,
                    exclusive,
                    eps,
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


@pytest.mark.parametrize('temperature', [0.07, 0.2, 1.0])
@pytest.mark.parametrize('eps', [0, EPS, 0.1])
@pytest.mark.parametrize('exclusive', [True, False])
@pytest.mark.parametrize('hard', ['hard', 'easy', 'random', 'all'])
@pytest.mark.parametrize('mode', ['exact', 'topm', 'official', 'full'])
def test_losses_and_gradients_are_the_definitions(mode, hard, exclusive, eps, temperature):
    batch = Batch()
    if mode == 'full':
        batch.background = None
    mode = 'topm' if mode == 'full' else mode
    ours = batch.losses(
        temperature,
        mode,
        eps,
        num_hard=3,
        hard=hard,
        exclusive=exclusive,
        generator=torch.Generator().manual_seed(4),
    )
    theirs = batch.references(temperature, mode, eps, 3, hard, exclusive, seed=4)
    assert_agree(batch, temperature, ours, theirs)


@pytest.mark.parametrize('mode', ['exact', 'topm', 'official'])
@pytest.mark.parametrize('num_hard', [1, 5, 50])
def test_repeated_positives_are_the_definitions(mode, num_hard):
    batch = Batch(concat=True)
    ours = batch.losses(0.2, mode, EPS, num_hard=num_hard)
    theirs = batch.references(0.2, mode, EPS, num_hard, 'hard', exclusive=True)
    assert_agree(batch, 0.2, ours, theirs)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('mode', ['exact', 'topm', 'official'])
def test_half_precision_banks_are_the_definitions(mode, dtype):
    batch = Batch(dtype)
    ours = batch.losses(0.2, mode, 0, num_hard=3)
    assert all(loss.dtype == torch.float32 for loss in ours)
    assert_agree(batch, 0.2, ours, batch.references(0.2, mode, 0, 3, 'hard', exclusive=True))


@pytest.mark.parametrize('mode', ['exact', 'topm'])
def test_low_temperature_does_not_overflow(mode):
    """exp(1 / 0.01) is no float32."""
    batch = Batch()
    ours = batch.losses(0.01, mode, 0, num_hard=3)
    theirs = batch.references(0.01, mode, 0, 3, 'hard', exclusive=True)
    assert theirs[1].max() > 50
    assert_agree(batch, 0.01, ours, theirs)


@pytest.mark.parametrize('mode', ['exact', 'topm', 'official'])
@pytest.mark.parametrize('eps', [0, EPS])
def test_rows_without_positives_give_zero_and_no_gradient(mode, eps):
    batch = Batch()
    batch.mask[2] = False
    with torch.autograd.set_detect_anomaly(True):  # Stops at a NaN anywhere on the way.
        _, loss = batch.losses(0.07, mode, eps, num_hard=3)
        (grad,) = torch.autograd.grad(loss.sum(), batch.query)
    assert loss[[0, 2]].tolist() == [0, 0]
    assert not grad[[0, 2]].any()
    assert grad[[1, 3, 4, 5]].abs().sum(dim=1).min() > 0
    assert grad.isfinite().all()


def test_no_positives_at_all():
    batch = Batch()
    batch.mask[:] = False
    _, loss = batch.losses(0.07, 'exact', 0)
    (grad,) = torch.autograd.grad(loss.sum(), batch.query)
    assert not loss.any() and not grad.any()


def test_a_background_of_positives_alone_leaves_nothing_to_lose():
    """With nothing but the chosen positives below and above, the ratio is 1."""
    batch = Batch()
    batch.positive = batch.background.clone()
    batch.mask = torch.ones_like(batch.positive, dtype=torch.bool)
    _, loss = batch.losses(0.07, 'exact', 0, hard='all')
    (grad,) = torch.autograd.grad(loss.sum(), batch.query)
    assert not loss.any() and not grad.any()


def test_a_background_of_the_anchor_alone_leaves_nothing_to_lose():
    """M = 1 and the anchor nearest: no others, with or without positives."""
    batch = Batch()
    batch.background = batch.anchor[:, None]
    with torch.autograd.set_detect_anomaly(True):
        losses = batch.losses(0.07, 'exact', 0, hard='all')
        (grad,) = torch.autograd.grad(sum(losses).sum(), batch.query)
    assert not torch.stack(losses).any() and not grad.any()


@pytest.mark.parametrize('mode', ['exact', 'topm', 'official'])
def test_shared_similarities_change_nothing(mode):
    batch = Batch()
    known = top_m(batch.query, batch.bank, 8)[0]
    shared = bank_similarity(batch.query, batch.bank, batch.background, known)
    alone = batch.losses(0.07, mode, 0)
    instance_mode = 'exact' if mode == 'exact' else 'topm'
    given = (
        instance_loss(
            batch.query,
            batch.bank,
            batch.anchor,
            batch.background,
            0.07,
            background_mode=instance_mode,
            similarity=shared,
        ),
        propagation_loss(
            batch.query,
            batch.bank,
            batch.anchor,
            batch.positive,
            batch.mask,
            batch.background,
            0.07,
            background_mode=mode,
            similarity=shared,
        ),
    )
    # The official code takes two sums' difference, which costs digits where the anchor is most.
    atol = 1e-4 if mode == 'official' else 1e-5
    for left, right in zip(alone, given, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=atol)
    grads = [torch.autograd.grad(sum(pair).sum(), batch.query)[0] for pair in (alone, given)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=10 * atol)


@pytest.mark.parametrize('exclusive', [True, False])
def test_full_bank_is_a_background_of_all_rows(exclusive):
    batch = Batch()
    batch.background = torch.arange(30).expand(6, 30)
    listed = batch.losses(0.07, 'topm', 0, exclusive=False)
    batch.background = None
    full = batch.losses(0.07, 'topm', 0, exclusive=exclusive)
    for left, right in zip(listed, full, strict=True):
        torch.testing.assert_close(left, right)
        grads = [torch.autograd.grad(loss.sum(), batch.query)[0] for loss in (left, right)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


def test_the_anchor_counts_once_wherever_it_ranks():
    batch = Batch()
    without = top_m(batch.query, batch.bank, 8, exclude=batch.anchor)[1]
    with_anchor = torch.cat([batch.anchor[:, None], without], dim=1)
    losses = [
        instance_loss(batch.query, batch.bank, batch.anchor, background, 0.07)
        for background in (without, with_anchor)
    ]
    torch.testing.assert_close(*losses)


def test_gradient_flows_to_the_query_alone():
    batch = Batch()
    batch.bank.requires_grad_()
    for background in (batch.background, None):
        batch.background = background
        batch.query.grad = None
        sum(batch.losses(0.07, 'exact', 0)).sum().backward()
        assert batch.bank.grad is None
        assert batch.query.grad.abs().sum() > 0


@pytest.mark.parametrize('mode', ['exact', 'topm', 'official'])
def test_autocast_does_not_lower_the_precision(mode):
    batch = Batch(torch.bfloat16)
    expected = batch.losses(0.07, mode, 0)
    with torch.autocast('cpu', torch.bfloat16):
        ours = batch.losses(0.07, mode, 0)
    for left, right in zip(ours, expected, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize('mode', ['exact', 'topm', 'official', 'full'])
def test_no_matrix_of_batch_by_bank_is_made(mode):
    """Forward and backward, from the search on, with N far above M."""
    rows, queries = 100_000, 64
    bank = unit_rows(rows, 4, seed=5)
    query = unit_rows(queries, 4, seed=6).requires_grad_()
    anchor = torch.arange(queries)
    graph = torch.randint(0, rows, (rows, 3), generator=torch.Generator().manual_seed(7))
    with Allocations() as allocations:
        known, background = top_m(query, bank, 32, sort=False)
        positive, mask = propagate(graph, anchor, hops=2)
        similarity = bank_similarity(query, bank, background, known)
        if mode == 'full':
            background = similarity = None
        instance = instance_loss(query, bank, anchor, background, 0.1, similarity=similarity)
        propagation = propagation_loss(
            query,
            bank,
            anchor,
            positive,
            mask,
            background,
            0.1,
            background_mode='exact' if mode == 'full' else mode,
            similarity=similarity,
        )
        (instance + propagation).sum().backward()
    assert query.grad.abs().sum() > 0
    assert allocations.largest < queries * rows / 2


@pytest.mark.parametrize('temperature', [0, -0.07])
def test_a_temperature_must_be_positive(temperature):
    batch = Batch()
    message = f'temperature = {temperature} must be positive'
    with pytest.raises(ValueError, match=message):
        instance_loss(batch.query, batch.bank, batch.anchor, batch.background, temperature)
    with pytest.raises(ValueError, match=message):
        golden_propagation(PAPER, temperature)


def test_unknown_backgrounds_list_the_names():
    batch = Batch()
    with pytest.raises(ValueError, match=r"'official' is unknown; valid: 'exact', 'topm'\."):
        instance_loss(
            batch.query,
            batch.bank,
            batch.anchor,
            batch.background,
            0.1,
            background_mode='official',
        )
    with pytest.raises(ValueError, match=r"'paper' is unknown; valid: 'exact', 'topm', 'official'"):
        batch.losses(0.1, 'paper', 0)


def test_settings_of_the_selection_are_checked():
    batch = Batch()
    with pytest.raises(ValueError, match=r"hard = 'soft' is unknown"):
        batch.losses(0.1, 'exact', 0, hard='soft')
    with pytest.raises(ValueError, match=r'num_hard = 0 is outside'):
        batch.losses(0.1, 'exact', 0, num_hard=0)
