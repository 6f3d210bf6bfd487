import dataclasses
import math
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
    knn_graph,
    propagate,
    propagation_loss,
    ramp_weight,
    top_m,
)
from mmselfsup_invp.ops.positives import select_positives

from . import reference
from .tools import POINTS, Allocations, on_circle, unit_rows

EPS = 1e-7
ANCHOR = torch.tensor([1])
GRAPH = knn_graph(POINTS, 2)
BACKGROUNDS = ('exact', 'topm', 'official')

every_background = pytest.mark.parametrize('background', BACKGROUNDS)


def near(query, bank, index):
    """The search result with these rows."""
    return Neighbours((query @ bank.T).detach().gather(1, index), index)


# N_M(1) of the paper, and the four nearest rows of the released code, which include the anchor.
QUERY = on_circle(12)
PAPER = near(QUERY, POINTS, torch.tensor([[0, 2, 3, 4]]))
CODE = near(QUERY, POINTS, torch.tensor([[1, 0, 2, 3]]))


def golden(value: torch.Tensor, expected: float) -> None:
    """Six digits are stated; float32 keeps about that many."""
    torch.testing.assert_close(value.item(), expected, rtol=2e-6, atol=1e-6)


def golden_propagation(nearest, temperature=0.2, concat=False, **options):
    positive = propagate(GRAPH, ANCHOR, hops=2, mode='concat' if concat else 'set')
    sampling = HardSampling(temperature, **options)
    return propagation_loss(QUERY, POINTS, ANCHOR, nearest, positive, sampling)


def test_golden_backgrounds_are_search_results():
    assert top_m(QUERY, POINTS, 4, exclude=ANCHOR).index.sort(dim=1).values.equal(PAPER.index)
    assert top_m(QUERY, POINTS, 4).index.tolist() == CODE.index.tolist()


@pytest.mark.parametrize(
    ('nearest', 'options', 'expected'),
    [
        (PAPER, {}, 1.027961),
        (PAPER, dict(temperature=0.07), 0.891061),
        # The anchor counts once, also if it is among the nearest rows.
        (near(QUERY, POINTS, torch.tensor([[1, 0, 2, 3, 4]])), {}, 1.027961),
        (CODE, dict(instance_background='topm', eps=EPS), 1.025928),
        (None, {}, 1.027978),
    ],
)
def test_golden_instance_loss(nearest, options, expected):
    sampling = HardSampling(**{'temperature': 0.2, **options})
    golden(instance_loss(QUERY, POINTS, ANCHOR, nearest, sampling), expected)


@pytest.mark.parametrize(
    ('nearest', 'options', 'expected'),
    [
        (PAPER, dict(num_hard=1), 0.015432),
        (PAPER, dict(num_hard=1, hard_pos='easy'), 0.015146),
        (PAPER, dict(num_hard=2), 0.007673),
        (PAPER, dict(num_hard=50), 0.007673),
        (PAPER, dict(num_hard=1, hard_pos='all'), 0.007673),
        (PAPER, dict(num_hard=1, background='topm'), 0.710309),
        (None, dict(hard_pos='all'), 0.450446),
    ],
)
def test_golden_propagation_loss_of_the_paper(nearest, options, expected):
    golden(golden_propagation(nearest, **options), expected)


@pytest.mark.parametrize('background', ['topm', 'official'])
@pytest.mark.parametrize(
    ('temperature', 'num_hard', 'hard_pos', 'exclusive', 'expected'),
    [
        (0.2, 1, 'hard', True, 0.707142),
        (0.2, 1, 'hard', False, 1.151031),
        (0.2, 1, 'easy', True, 0.582038),
        (0.2, 2, 'hard', True, 0.013995),
        (0.2, 2, 'hard', False, 0.457884),
        (0.2, 2, 'easy', True, -0.111109),
        (0.2, 4, 'hard', True, -0.688641),
        (0.2, 4, 'hard', False, -0.244751),
        (0.2, 4, 'easy', True, -0.752558),
        (0.07, 1, 'hard', True, 0.720494),
        (0.07, 1, 'hard', False, 1.248500),
        (0.07, 4, 'hard', True, -0.693147),
    ],
)
def test_golden_propagation_loss_of_the_code(
    temperature, num_hard, hard_pos, exclusive, expected, background
):
    options = dict(num_hard=num_hard, hard_pos=hard_pos, exclusive=exclusive)
    loss = golden_propagation(
        CODE, temperature, concat=True, background=background, eps=EPS, **options
    )
    golden(loss, expected)


def test_golden_loss_near_zero_keeps_its_digits():
    loss = golden_propagation(PAPER, temperature=0.07, num_hard=1)
    torch.testing.assert_close(loss.item(), 2.031016e-6, rtol=1e-5, atol=0)


def test_golden_gradient():
    feature = on_circle(12).requires_grad_()
    positive, sampling = propagate(GRAPH, ANCHOR, hops=2), HardSampling(0.2, num_hard=1)
    query = F.normalize(feature)
    propagation_loss(query, POINTS, ANCHOR, PAPER, positive, sampling).sum().backward()
    expected = torch.tensor([[-0.012329, 0.058003]])
    torch.testing.assert_close(feature.grad, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ('num_hard', 'epoch', 'expected'), [(1, 31, 1.037220), (1, 30, 1.027961), (2, 31, 1.032564)]
)
def test_golden_total(num_hard, epoch, expected):
    instance = instance_loss(QUERY, POINTS, ANCHOR, PAPER, HardSampling(0.2))
    propagation = golden_propagation(PAPER, num_hard=num_hard)
    golden(instance + 0.6 * ramp_weight('binary', epoch) * propagation, expected)


class TestOutsideTheNearest:
    """Anchor and positive rank below the M nearest: s_self = 0.2, others 0.9, 0.8, 0.7, M = 2."""

    bank = torch.tensor([[s, math.sqrt(1 - s * s)] for s in (0.2, 0.9, 0.8, 0.7)])
    query = torch.tensor([[1.0, 0.0]])
    anchor = torch.tensor([0])
    nearest = near(query, bank, torch.tensor([[1, 2]]))
    positive = Positives(torch.tensor([[3]]), torch.tensor([[True]]))

    @pytest.mark.parametrize(
        ('background', 'eps', 'expected'), [('exact', 0, 2.125289), ('topm', EPS, 1.998138)]
    )
    def test_golden_instance_loss(self, background, eps, expected):
        sampling = HardSampling(0.5, instance_background=background, eps=eps)
        golden(instance_loss(self.query, self.bank, self.anchor, self.nearest, sampling), expected)

    @pytest.mark.parametrize(
        ('background', 'eps', 'expected'),
        [('exact', 0, 1.311901), ('topm', 0, 0.998139), ('official', EPS, 0.852434)],
    )
    def test_golden_propagation_loss(self, background, eps, expected):
        sampling = HardSampling(0.5, num_hard=1, background=background, eps=eps)
        arguments = self.query, self.bank, self.anchor, self.nearest, self.positive
        golden(propagation_loss(*arguments, sampling), expected)


@pytest.mark.parametrize('loss', ['instance', 'propagation'])
def test_golden_cap(loss):
    """The largest value that eps leaves is -log(1e-7)."""
    bank, query, anchor = on_circle(180, 0, 0), on_circle(0), torch.tensor([0])
    nearest, sampling = near(query, bank, torch.tensor([[1, 2]])), HardSampling(0.05, eps=EPS)
    if loss == 'instance':
        value = instance_loss(query, bank, anchor, nearest, sampling)
    else:
        positive = Positives(anchor[None], torch.tensor([[True]]))
        value = propagation_loss(query, bank, torch.tensor([2]), nearest, positive, sampling)
    golden(value, 16.118096)


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


@pytest.mark.parametrize('temperature', [0.02, 0.07, 0.2, 1.0])
@pytest.mark.parametrize('eps', [0.0, EPS, 0.1])
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
    batch.nearest = near(batch.query, batch.bank, batch.anchor[:, None])
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
    gather = similarity._gather_dot
    monkeypatch.setattr(
        similarity, '_gather_dot', lambda *args: read.append(args[2].size(1)) or gather(*args)
    )
    batch.losses(0.07, 'exact')
    assert sorted(read) == [1, batch.positive.index.size(1)]


@pytest.mark.parametrize('exclusive', [True, False])
def test_full_bank_is_a_background_of_all_rows(exclusive):
    batch = Batch()
    batch.nearest = near(batch.query, batch.bank, torch.arange(30).expand(6, 30))
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
        batch.nearest = near(batch.query, batch.bank, index)
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


class TestHardSampling:
    def test_the_paper_is_the_default(self):
        assert dataclasses.asdict(HardSampling()) == dict(
            temperature=0.07,
            num_background=4096,
            num_hard=50,
            hard_pos='hard',
            background='exact',
            exclusive=True,
            instance_background='exact',
            eps=0.0,
        )

    def test_search_width(self):
        assert HardSampling().search_width == 4097
        assert HardSampling(num_background=None).search_width == 0

    def test_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            HardSampling().eps = 1.0

    @pytest.mark.parametrize(
        ('option', 'message'),
        [
            (dict(temperature=0.0), 'temperature = 0.0 is not valid'),
            (dict(temperature=-1), 'temperature = -1 is not valid'),
            (dict(eps=-1.0), 'eps = -1.0 is not valid. It must be a finite number from 0'),
            (dict(eps=math.inf), 'eps = inf is not valid. It must be a finite number'),
            (
                dict(num_background=0),
                'num_background = 0 is not valid. It must be an integer from 1',
            ),
            (dict(num_hard=0), 'num_hard = 0 is not valid. It must be an integer from 1'),
            (dict(hard_pos='hardest'), "one of 'hard', 'easy', 'random', 'all'"),
            (dict(background='top'), "'top' is not valid. .* one of 'exact', 'topm', 'official'"),
            (
                dict(instance_background='official'),
                "'official' is not valid. .* one of 'exact', 'topm'",
            ),
        ],
    )
    def test_wrong_options_are_named(self, option, message):
        with pytest.raises(ValueError, match=message):
            HardSampling(**option)
