import math

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.ops.margins import margin_logit, margin_nce

NEGATIVE = torch.tensor([[0.5, 0.1, -0.3]])


def plain(positive, negative, temperature, margin):
    """The formula of the paper, in float64, with plain exponentials."""
    own = ((positive.double() - margin) / temperature).exp()
    others = (negative.double() / temperature).exp().sum(dim=1)
    return -(own / (own + others)).log()


@pytest.mark.parametrize(
    ('temperature', 'margin', 'expected'),
    [
        (0.1, 0.0, 0.318265),
        (0.1, 0.35, 2.595979),
        (0.1, -0.5, 0.002522),
        (0.2, 0.0, 0.530466),
        (0.2, 0.35, 1.614751),
        (0.2, -0.5, 0.055848),
    ],
)
def test_golden_values(temperature, margin, expected):
    """B-G1."""
    loss = margin_nce(torch.tensor([0.6]), NEGATIVE, temperature, margin)
    torch.testing.assert_close(loss.item(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ('cosine', 'margin', 'logit', 'losses'),
    [
        (0.6, 0.5, 0.143009, (3.615656, 2.063688)),
        (0.6, -0.5, 0.910090, (0.016726, 0.138412)),
        (0.95, -0.5, 1.189713, (0.001029, 0.036019)),
        (-0.95, 0.5, -1.189713, (16.915607, 8.591681)),
        (0.877, -0.5, 0.999999, None),
        (0.878, -0.5, 1.117713, None),
        (0.6, 0.0, 0.6, None),
    ],
)
def test_golden_values_of_the_arc_margin(cosine, margin, logit, losses):
    """B-G2, with the jump between its two pieces."""
    positive = torch.tensor([cosine])
    found = margin_logit(positive, margin, 'arc')
    torch.testing.assert_close(found.item(), logit, atol=1.1e-6, rtol=0)
    for temperature, expected in zip((0.1, 0.2), losses or (), strict=False):
        loss = margin_nce(positive, NEGATIVE, temperature, margin, 'arc')
        torch.testing.assert_close(loss.item(), expected, atol=1e-6, rtol=1e-6)


def test_the_pieces_of_the_arc_margin():
    """The cosine of the angle plus m, as far as that falls with the angle; then a line."""
    angle = torch.linspace(0, math.pi, 400)
    for margin in (0.5, -0.5, 1.2):
        found = margin_logit(angle.cos(), margin, 'arc')
        inside = (angle + margin >= 0) & (angle + margin <= math.pi)
        sure = inside & ((angle + margin).abs() > 1e-2) & ((angle + margin - math.pi).abs() > 1e-2)
        expected = (angle + margin).cos()
        torch.testing.assert_close(found[sure], expected[sure], atol=2e-4, rtol=0)
        outside = ~inside
        line = angle.cos() - abs(margin * math.sin(margin)) * (1 if margin > 0 else -1)
        torch.testing.assert_close(found[outside], line[outside])
        assert outside.any()


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    positive = torch.rand(9, generator=generator) * 2 - 1
    negative = torch.rand(9, 30, generator=generator) * 2 - 1
    return positive, negative


def test_zero_margin_is_infonce():
    positive, negative = batch()
    logits = torch.cat([positive[:, None], negative], dim=1) / 0.07
    expected = F.cross_entropy(logits, torch.zeros(9, dtype=torch.int64), reduction='none')
    for kind in ('cosine', 'arc'):
        torch.testing.assert_close(margin_nce(positive, negative, 0.07, 0.0, kind), expected)


@pytest.mark.parametrize('margin', [-0.5, 0.0, 0.35])
@pytest.mark.parametrize('temperature', [0.1, 0.2])
def test_values_and_gradients_are_those_of_the_formula(temperature, margin):
    ours = [part.requires_grad_() for part in batch(1)]
    theirs = [part.detach().double().requires_grad_() for part in ours]
    loss, expected = margin_nce(*ours, temperature, margin), plain(*theirs, temperature, margin)
    torch.testing.assert_close(loss, expected.float())
    weight = torch.arange(1.0, 10.0)
    found = torch.autograd.grad((loss * weight).sum(), ours)
    for one, other in zip(
        found, torch.autograd.grad((expected * weight).sum(), theirs), strict=True
    ):
        torch.testing.assert_close(one, other.float())


@pytest.mark.parametrize('margin', [-0.5, 0.5])
@pytest.mark.parametrize('edge', [1.0, -1.0, 1.0 + 1e-6])
def test_gradients_are_finite_at_the_edges(margin, edge):
    positive = torch.tensor([edge], requires_grad=True)
    margin_nce(positive, NEGATIVE, 0.1, margin, 'arc').sum().backward()
    assert positive.grad.isfinite().all()


def test_small_temperatures_do_not_overflow():
    loss = margin_nce(torch.tensor([-1.0]), torch.tensor([[1.0]]), 0.001)
    torch.testing.assert_close(loss, torch.tensor([2000.0]))


def test_half_precision_is_widened():
    positive, negative = (part.half() for part in batch(2))
    loss = margin_nce(positive, negative, 0.1, -0.5)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain(positive, negative, 0.1, -0.5).float())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kind='angular'), "kind = 'angular' is not valid. It must be one of 'cosine', 'arc'"),
        (dict(kind='arc', margin=3.5), 'margin = 3.5 is an angle'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        margin_logit(torch.zeros(1), **{'margin': 0.1, **options})


@pytest.mark.parametrize('temperature', [0, -0.1])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=f'temperature = {temperature} is not valid.* above 0'):
        margin_nce(torch.tensor([0.6]), NEGATIVE, temperature)


def test_positives_and_negatives_have_to_fit():
    with pytest.raises(ValueError, match=r'positive has the shape \(1,\) where \(2,\) is needed'):
        margin_nce(torch.zeros(1), torch.zeros(2, 3), 0.1)
