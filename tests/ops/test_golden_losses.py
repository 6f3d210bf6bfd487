"""Both losses against values worked out by hand for six points on a circle."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.ops import (
    HardSampling,
    Positives,
    instance_loss,
    knn_graph,
    propagate,
    propagation_loss,
    ramp_weight,
    top_m,
)

from .tools import POINTS, found, on_circle

EPS = 1e-7
ANCHOR = torch.tensor([1])
GRAPH = knn_graph(POINTS, 2)

# N_M(1) of the paper, and the four nearest rows of the released code, which include the anchor.
QUERY = on_circle(12)
PAPER = found(QUERY, POINTS, torch.tensor([[0, 2, 3, 4]]))
CODE = found(QUERY, POINTS, torch.tensor([[1, 0, 2, 3]]))


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
        (found(QUERY, POINTS, torch.tensor([[1, 0, 2, 3, 4]])), {}, 1.027961),
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
    nearest = found(query, bank, torch.tensor([[1, 2]]))
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
    nearest, sampling = found(query, bank, torch.tensor([[1, 2]])), HardSampling(0.05, eps=EPS)
    if loss == 'instance':
        value = instance_loss(query, bank, anchor, nearest, sampling)
    else:
        positive = Positives(anchor[None], torch.tensor([[True]]))
        value = propagation_loss(query, bank, torch.tensor([2]), nearest, positive, sampling)
    golden(value, 16.118096)
