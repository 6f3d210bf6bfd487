import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.models import InvPHead, PropagationMemory

from .. import toy


def head_of(**options):
    loss = dict(type='HardSamplingLoss', temperature=0.3, num_background=8, num_hard=4)
    options['loss'] = {**loss, **options.get('loss', {})}
    return InvPHead(**options)


def memory_of(length=30, k=3):
    """A memory with an exact graph, so that positives exist."""
    memory = PropagationMemory(length=length, num_neighbours=k, feat_dim=toy.DIM)
    memory.rebuild_graph()
    return memory


def queries(memory, anchor, seed=5):
    """Queries near the rows of their anchors, and one far from it."""
    query = memory.bank[anchor] + 0.8 * toy.rows(len(anchor), seed=seed)
    query[-1] = -memory.bank[anchor[-1]]
    return torch.nn.functional.normalize(query)


ANCHOR = torch.tensor([3, 0, 17, 29, 8])
SAMPLING = ops.HardSampling(temperature=0.3, num_background=8, num_hard=4)


class TestGoldenExample:
    """METHODS, A-G4, from the graph to the weighted losses."""

    @pytest.fixture
    def golden(self):
        angle = torch.deg2rad(torch.tensor([0.0, 10, 25, 100, 104, 200, 12]))
        points = torch.stack([angle.cos(), angle.sin()], dim=1)
        memory = PropagationMemory(length=6, num_neighbours=2, feat_dim=2)
        memory.bank.copy_(points[:6])
        memory.rebuild_graph()
        return points[6:], torch.tensor([1]), memory

    @pytest.mark.parametrize(
        ('num_hard', 'options', 'instance', 'propagation'),
        [
            (1, {}, 1.027961, 0.015432),
            (2, {}, 1.027961, 0.007673),
            (1, dict(hard_pos='easy'), 1.027961, 0.015146),
            (1, dict(hard_pos='all'), 1.027961, 0.007673),
            (1, dict(background='topm'), 1.027961, 0.710309),
            # The nearest rows are 1, 0, 2, 3; the first is the anchor.
            (1, dict(background='topm', exclusive=False), 1.027961, 1.151031),
            (2, dict(hard_neg=False, hard_pos='all'), 1.027978, 0.450446),
        ],
    )
    def test_paper(self, golden, num_hard, options, instance, propagation):
        loss = dict(temperature=0.2, num_background=4, num_hard=num_hard)
        losses = head_of(hops=2, loss={**loss, **options})(*golden)
        self.assert_losses(losses, instance, propagation, positives=2)

    @pytest.mark.parametrize(
        ('num_hard', 'options', 'propagation'),
        [
            (1, {}, 0.707142),
            (1, dict(exclusive=False), 1.151031),
            (1, dict(hard_pos='easy'), 0.582038),
            (2, {}, 0.013995),
            (2, dict(exclusive=False), 0.457884),
            (2, dict(hard_pos='easy'), -0.111109),
            (4, {}, -0.688641),
            (4, dict(exclusive=False), -0.244751),
            (4, dict(hard_pos='easy'), -0.752558),
        ],
    )
    def test_official_code(self, golden, num_hard, options, propagation):
        loss = dict(
            temperature=0.2,
            num_background=4,
            num_hard=num_hard,
            background='official',
            instance_background='topm',
            eps=1e-7,
        )
        head = head_of(hops=2, propagation='concat', loss={**loss, **options})
        self.assert_losses(head(*golden), 1.025928, propagation, positives=6)

    @pytest.mark.parametrize(('ramp', 'total'), [(1.0, 1.037220), (0.0, 1.027961)])
    def test_total(self, golden, ramp, total):
        head = head_of(hops=2, loss=dict(temperature=0.2, num_background=4, num_hard=1))
        head.ramp = ramp
        losses = head(*golden)
        found = losses['loss_ins'] + losses['loss_inv']
        torch.testing.assert_close(found.item(), total, atol=2e-6, rtol=0)

    def assert_losses(self, losses, instance, propagation, positives):
        found = [losses['loss_ins'].item(), losses['loss_inv'].item() / 0.6]
        torch.testing.assert_close(found, [instance, propagation], atol=3e-6, rtol=0)
        assert losses['num_positives'] == positives


class TestOneStep:
    @pytest.mark.parametrize('propagation', ['set', 'concat'])
    @pytest.mark.parametrize('hops', [1, 3])
    def test_equals_the_operations_by_hand(self, hops, propagation):
        memory = memory_of()
        query = queries(memory, ANCHOR).requires_grad_()
        neighbours = memory.neighbours.clone()
        losses = head_of(hops=hops, propagation=propagation, lambda_inv=0.7)(query, ANCHOR, memory)

        positive = ops.propagate(neighbours, ANCHOR, hops, propagation)
        others = ops.top_m(query, memory.bank, 8, exclude=ANCHOR)
        arguments = query, memory.bank, ANCHOR, others
        instance = ops.instance_loss(*arguments, SAMPLING)
        invariance = ops.propagation_loss(*arguments, positive, SAMPLING)
        torch.testing.assert_close(losses['loss_ins'], instance.mean())
        torch.testing.assert_close(losses['loss_inv'], 0.7 * invariance.mean())
        torch.testing.assert_close(losses['num_positives'], positive.mask.sum(1).float().mean())

    def test_the_batch_is_staged_with_its_new_neighbours(self):
        memory = memory_of()
        query = queries(memory, ANCHOR).requires_grad_()
        before = memory.neighbours.clone()
        head_of()(query, ANCHOR, memory)
        assert torch.equal(memory.neighbours, before)  # Until the step is done.
        sample, feature, neighbours = memory.staged
        assert torch.equal(sample, ANCHOR) and torch.equal(feature, query)
        assert not feature.requires_grad
        expected = ops.top_m(query.detach(), memory.bank, 3, exclude=ANCHOR)[1]
        assert torch.equal(neighbours.sort(dim=1)[0], expected.sort(dim=1)[0])

    def test_the_bank_is_a_constant(self):
        memory = memory_of()
        memory.bank.requires_grad_()
        query = queries(memory, ANCHOR).detach().requires_grad_()
        losses = head_of()(query, ANCHOR, memory)
        (losses['loss_ins'] + losses['loss_inv']).backward()
        assert memory.bank.grad is None
        assert query.grad.abs().sum(dim=1).min() > 0

    def test_images_without_positives_do_not_thin_the_loss(self):
        memory = memory_of()
        query = queries(memory, ANCHOR)
        memory.neighbours[ANCHOR[2:]] = -1
        two = head_of(hops=1)(query[:2], ANCHOR[:2], memory)
        unstage(memory)
        five = head_of(hops=1)(query, ANCHOR, memory)
        torch.testing.assert_close(two['loss_inv'], five['loss_inv'])
        torch.testing.assert_close(five['num_positives'].item(), 3 * 2 / 5)

    @pytest.mark.parametrize(('lambda_inv', 'ramp'), [(0.0, 1.0), (0.6, 0.0)])
    def test_without_weight_the_propagation_loss_is_not_even_computed(self, lambda_inv, ramp):
        """So that a NaN in it cannot poison the sum; the graph is refreshed all the same."""
        memory = memory_of()
        head = head_of(lambda_inv=lambda_inv)
        head.ramp = ramp
        query = queries(memory, ANCHOR)
        memory.propagate = lambda *_: pytest.fail('walked the graph')
        losses = head(query, ANCHOR, memory)
        assert losses['loss_inv'] == 0 == losses['num_positives']
        others = ops.top_m(query, memory.bank, 8, exclude=ANCHOR)
        expected = ops.instance_loss(query, memory.bank, ANCHOR, others, SAMPLING).mean()
        torch.testing.assert_close(losses['loss_ins'], expected)
        assert torch.equal(memory.staged[0], ANCHOR)

    def test_a_small_weight_is_a_weight(self):
        memory = memory_of()
        head = head_of()
        query = queries(memory, ANCHOR)
        values = []
        for head.ramp in (1.0, 1e-3):
            unstage(memory)
            values.append(head(query, ANCHOR, memory)['loss_inv'])
        torch.testing.assert_close(values[0] * 1e-3, values[1])


class TestNearestAsPositives:
    @pytest.mark.parametrize('knn_k', [1, 5, 12])
    def test_are_the_nearest_other_rows(self, knn_k):
        memory = memory_of()
        memory.neighbours.fill_(-1)  # Not looked at.
        query = queries(memory, ANCHOR)
        losses = head_of(positive='knn', knn_k=knn_k)(query, ANCHOR, memory)
        index = ops.top_m(query, memory.bank, knn_k, exclude=ANCHOR).index
        others = ops.top_m(query, memory.bank, 8, exclude=ANCHOR)
        positive = ops.Positives(index, torch.ones_like(index, dtype=torch.bool))
        arguments = query, memory.bank, ANCHOR, others
        expected = ops.propagation_loss(*arguments, positive, SAMPLING)
        torch.testing.assert_close(losses['loss_inv'], 0.6 * expected.mean())
        assert losses['num_positives'] == knn_k

    def test_more_than_there_are_rows(self):
        memory = memory_of()
        losses = head_of(positive='knn', knn_k=500)(queries(memory, ANCHOR), ANCHOR, memory)
        assert losses['num_positives'] == 29
        assert losses['loss_inv'].isfinite()


class TestSearchWidth:
    @pytest.mark.parametrize(
        ('options', 'k', 'width'),
        [
            ({}, 3, 9),
            ({}, 12, 13),
            (dict(positive='knn', knn_k=20), 3, 21),
            (dict(positive='knn', knn_k=2), 3, 9),
            (dict(knn_k=20), 3, 9),
            (dict(loss=dict(hard_neg=False)), 3, 4),
        ],
    )
    def test_one_search_is_wide_enough_for_all(self, options, k, width, monkeypatch):
        widths = []
        top_m = ops.top_m
        monkeypatch.setattr(
            'mmselfsup_invp.ops.invp.top_m',
            lambda query, bank, m, **kwargs: widths.append(m) or top_m(query, bank, m, **kwargs),
        )
        memory = memory_of(k=k)
        head_of(**options)(queries(memory, ANCHOR), ANCHOR, memory)
        assert widths == [width]

    def test_a_background_larger_than_the_bank(self):
        memory = memory_of()
        query = queries(memory, ANCHOR)
        values = []
        for num_background in (29, 4096):
            unstage(memory)
            head = head_of(loss=dict(num_background=num_background))
            values.append(head(query, ANCHOR, memory))
        torch.testing.assert_close(values[0], values[1])


def unstage(memory):
    memory.staged = None


def test_an_empty_memory_names_the_hook():
    memory = PropagationMemory(num_neighbours=3, feat_dim=toy.DIM)
    with pytest.raises(RuntimeError, match='has no rows yet.*PropagationMemoryHook'):
        head_of()(toy.rows(5), ANCHOR, memory)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            dict(positive='nearest'),
            "positive = 'nearest' is not valid. It must be one of 'propagate', 'knn'",
        ),
        (
            dict(propagation='list'),
            "propagation = 'list' is not valid. It must be one of 'set', 'concat'",
        ),
        (dict(hops=0), 'hops = 0 is not valid. It must be an integer from 1 to 16'),
        (dict(hops=17), 'hops = 17 is not valid'),
        (dict(knn_k=0), 'knn_k = 0 is not valid'),
        (
            dict(lambda_inv=-0.1),
            'lambda_inv = -0.1 is not valid. It must be a finite number from 0',
        ),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        head_of(**option)


def test_the_paper_is_the_default():
    head = InvPHead()
    assert (head.positive, head.hops, head.propagation, head.lambda_inv) == (
        *('propagate', 3, 'set', 0.6),
    )
    assert head.loss.sampling == ops.HardSampling()
    assert head.ramp == 1
