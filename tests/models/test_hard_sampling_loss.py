import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.models import HardSamplingLoss

from .. import toy

ROWS, M, TEMPERATURE = 40, 6, 0.3

# Where the anchor ranks among all rows: well inside, on either side of the edges, far outside.
RANKS = [0, 1, M - 1, M, M + 1, M + 2, ROWS - 1]


def problem(seed=0):
    """Queries whose anchors stand at :data:`RANKS`, the bank, and positives near and far."""
    bank, query = toy.rows(ROWS, seed=seed), toy.rows(len(RANKS), seed=seed + 1)
    order = (query.double() @ bank.double().T).argsort(dim=1, descending=True)
    anchor = order[torch.arange(len(RANKS)), torch.tensor(RANKS)]
    generator = torch.Generator().manual_seed(seed)
    positive = torch.stack([torch.randperm(ROWS, generator=generator)[:8] for _ in RANKS])
    positive[:, :2] = order[:, 1:3]  # Some among the nearest.
    mask = torch.rand(positive.shape, generator=generator) < 0.7
    mask &= positive != anchor[:, None]
    mask[:, 2:] &= (positive[:, 2:, None] != positive[:, None, :2]).all(dim=2)
    mask[2] = False  # An image without positives.
    return query, bank, anchor, (positive, mask), order


def nearest_of(query, bank, width):
    return ops.top_m(query, bank, min(width, len(bank)), sort=False)


def without(order, anchor, count):
    """The nearest rows of each query other than its anchor, sorted."""
    return torch.stack([row[row != own][:count] for row, own in zip(order, anchor, strict=True)])


def by_hand(query, bank, anchor, positive, ins_background, background, **options):
    """Both losses from the operations, with backgrounds of a sorted brute-force search."""
    mode, ins_mode = options.pop('mode'), options.pop('ins_mode')
    eps = options.get('eps', 0.0)
    instance = ops.instance_loss(
        query, bank, anchor, ins_background, TEMPERATURE, background_mode=ins_mode, eps=eps
    )
    each = ops.propagation_loss(
        query, bank, anchor, *positive, background, TEMPERATURE, background_mode=mode, **options
    )
    return instance.mean(), each[positive[1].any(dim=1)].mean()


def assert_same(loss, expected_of, width=None, bank_seed=0):
    """Check both losses and the gradient of each."""
    query, bank, anchor, positive, order = problem(bank_seed)
    ours, theirs = query.clone().requires_grad_(), query.clone().requires_grad_()
    found = loss(ours, bank, anchor, nearest_of(query, bank, width or M + 1), positive)
    expected = expected_of(theirs, bank, anchor, positive, order)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
        gradients = [
            torch.autograd.grad(value, leaf, retain_graph=True)[0]
            for value, leaf in ((one, ours), (other, theirs))
        ]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('exclusive', [True, False])
@pytest.mark.parametrize('eps', [0.0, 1e-7, 0.1])
@pytest.mark.parametrize('instance_background', ['exact', 'topm'])
@pytest.mark.parametrize('background', ['exact', 'topm', 'official'])
def test_backgrounds_are_those_of_a_sorted_search(background, instance_background, eps, exclusive):
    """Wherever the anchor ranks, also where it is not among the M + 1 nearest."""
    loss = HardSamplingLoss(
        temperature=TEMPERATURE,
        num_background=M,
        num_hard=3,
        background=background,
        exclusive=exclusive,
        instance_background=instance_background,
        eps=eps,
    )

    def expected(query, bank, anchor, positive, order):
        backgrounds = dict(
            exact=without(order, anchor, M), topm=order[:, :M], official=order[:, :M]
        )
        return by_hand(
            query,
            bank,
            anchor,
            positive,
            backgrounds[instance_background],
            backgrounds[background],
            mode=background,
            ins_mode=instance_background,
            num_hard=3,
            exclusive=exclusive,
            eps=eps,
        )

    assert_same(loss, expected)
    assert_same(loss, expected, bank_seed=10)


@pytest.mark.parametrize('width', [M + 2, 25, ROWS])
@pytest.mark.parametrize('background', ['exact', 'topm', 'official'])
def test_a_wider_search_is_cut(background, width):
    loss = HardSamplingLoss(TEMPERATURE, M, num_hard=3, background=background)
    query, bank, anchor, positive, _ = problem()
    narrow = loss(query, bank, anchor, nearest_of(query, bank, M + 1), positive)
    wide = loss(query, bank, anchor, nearest_of(query, bank, width), positive)
    torch.testing.assert_close(wide, narrow)


@pytest.mark.parametrize('hard_pos', ['hard', 'easy', 'all'])
def test_positives_are_chosen_by_name(hard_pos):
    loss = HardSamplingLoss(TEMPERATURE, M, num_hard=2, hard_pos=hard_pos)

    def expected(query, bank, anchor, positive, order):
        others = without(order, anchor, M)
        return by_hand(
            query,
            bank,
            anchor,
            positive,
            others,
            others,
            mode='exact',
            ins_mode='exact',
            num_hard=2,
            hard=hard_pos,
        )

    assert_same(loss, expected)


def test_random_positives_follow_the_global_seed():
    loss = HardSamplingLoss(TEMPERATURE, M, num_hard=1, hard_pos='random')
    query, bank, anchor, positive, _ = problem()
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(loss(query, bank, anchor, nearest_of(query, bank, M + 1), positive)[1])
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize('background', ['exact', 'topm', 'official'])
def test_without_hard_negatives_the_whole_bank_is_the_background(background):
    loss = HardSamplingLoss(TEMPERATURE, M, num_hard=3, hard_neg=False, background=background)
    assert loss.search_width == 0

    def expected(query, bank, anchor, positive, order):
        return by_hand(
            query,
            bank,
            anchor,
            positive,
            None,
            None,
            mode=background,
            ins_mode='exact',
            num_hard=3,
        )

    assert_same(loss, expected)


@pytest.mark.parametrize('num_background', [ROWS - 1, ROWS, 10 * ROWS])
def test_a_background_larger_than_the_bank_is_all_other_rows(num_background):
    loss = HardSamplingLoss(TEMPERATURE, num_background, num_hard=3)

    def expected(query, bank, anchor, positive, order):
        others = without(order, anchor, ROWS - 1)
        return by_hand(
            query,
            bank,
            anchor,
            positive,
            others,
            others,
            mode='exact',
            ins_mode='exact',
            num_hard=3,
        )

    assert_same(loss, expected, width=loss.search_width)


def test_without_positives_there_is_no_propagation_loss():
    loss = HardSamplingLoss(TEMPERATURE, M)
    query, bank, anchor, positive, _ = problem()
    nearest = nearest_of(query, bank, M + 1)
    instance, propagation = loss(query, bank, anchor, nearest)
    assert propagation is None
    assert instance == loss(query, bank, anchor, nearest, positive)[0]


def test_nobody_has_positives():
    """As in the first iteration of a run: a zero without a gradient, and no division by it."""
    loss = HardSamplingLoss(TEMPERATURE, M)
    query, bank, anchor, (positive, mask), _ = problem()
    query.requires_grad_()
    nearest = nearest_of(query.detach(), bank, M + 1)
    value = loss(query, bank, anchor, nearest, (positive, torch.zeros_like(mask)))[1]
    assert value == 0
    assert not torch.autograd.grad(value, query)[0].any()


def test_the_gradient_stops_at_the_query():
    loss = HardSamplingLoss(TEMPERATURE, M)
    query, bank, anchor, positive, _ = problem()
    bank.requires_grad_()
    query.requires_grad_()
    nearest = nearest_of(query.detach(), bank.detach(), M + 1)
    sum(loss(query, bank, anchor, nearest, positive)).backward()
    assert bank.grad is None and query.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(temperature=0.0), 'temperature = 0.0 must be positive'),
        (dict(eps=-1.0), 'eps = -1.0 must not be negative'),
        (dict(temperature=-1), 'temperature = -1 must be positive'),
        (dict(num_background=0), 'num_background = 0 is outside the valid range 1'),
        (dict(num_hard=0), 'num_hard = 0 is outside the valid range 1'),
        (dict(hard_pos='hardest'), "hard_pos = 'hardest' is unknown; .*'easy', 'random', 'all'"),
        (dict(background='top'), "background = 'top' is unknown; .*'exact', 'topm', 'official'"),
        (dict(instance_background='official'), "instance_background = 'official' is unknown"),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        HardSamplingLoss(**option)
