import pytest
import torch

from mmselfsup_invp.ops import (
    NO_NEGATIVE,
    negatives,
    sample_negatives,
    sample_positive,
    sample_uniform_negatives,
)

from . import reference
from .tools import Allocations, unit_rows

STRATEGIES = ('hard', 'semi_hard', 'random', 'semi_easy')
POOLED = ('semi_hard', 'semi_easy')

# B-G6: similarities to the anchor and labels.
SIMILARITY = torch.tensor([0.95, 0.90, 0.85, 0.80, 0.60, 0.40, 0.20, 0.0, -0.3, -0.7])
LABELS = torch.tensor([0, 1, 0, 1, 2, 0, 2, 1, 2, 1])
BANK = torch.stack([SIMILARITY, (1 - SIMILARITY**2).sqrt()], dim=1)
QUERY = torch.tensor([[1.0, 0.0]])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def rows_of(*arguments, **options):
    return sample_negatives(*arguments, **options).index


def draw(strategy, num, queries=1, seed=0, pool_ratio=0.5):
    query, own = QUERY.expand(queries, 2), torch.zeros(queries, dtype=torch.int64)
    return rows_of(strategy, query, BANK, LABELS, own, num, pool_ratio, generator(seed))


def assert_uniform(found, among):
    """Every member of ``among`` is drawn, nothing else, and about as often as any other."""
    value, count = found.flatten().unique(return_counts=True)
    assert value.tolist() == sorted(among)
    expected = found.numel() / len(among)
    chi_square = ((count - expected) ** 2 / expected).sum()
    assert chi_square < 3 * len(among) + 12  # Far beyond what chance does.


class TestGoldenValues:
    def test_hard(self):
        assert sorted(draw('hard', 3)[0].tolist()) == [1, 3, 4]

    @pytest.mark.parametrize(
        ('strategy', 'pool'),
        [
            ('semi_hard', [1, 3, 4, 6]),
            ('semi_easy', [6, 7, 8, 9]),
            ('random', [1, 3, 4, 6, 7, 8, 9]),
        ],
    )
    def test_draws_are_uniform_over_the_pool(self, strategy, pool):
        found = draw(strategy, 2, queries=4000)
        assert_uniform(found, pool)
        assert (found[:, 0] != found[:, 1]).all(), 'without replacement'

    def test_the_other_classes_have_pools_of_their_own(self):
        own = torch.tensor([1, 2])
        found = rows_of('hard', QUERY.expand(2, 2), BANK, LABELS, own, 3)
        assert [sorted(row) for row in found.tolist()] == [[0, 2, 4], [0, 1, 2]]


def problem(seed, queries=7, rows=60, clusters=5):
    query, bank = unit_rows(queries, 4, seed=seed), unit_rows(rows, 4, seed=seed + 1)
    bank[rows // 2 :: 7] = bank[0]  # Repeated rows.
    label = torch.randint(clusters, (rows,), generator=generator(seed + 2))
    return query, bank, label, label[torch.arange(queries) * 3 % rows]


@pytest.mark.parametrize('strategy', STRATEGIES)
@pytest.mark.parametrize(('num', 'ratio'), [(1, 0.1), (5, 0.3), (20, 1.0), (20, 0.1)])
@pytest.mark.parametrize('seed', [0, 10])
def test_draws_come_from_the_pool_of_a_plain_loop(strategy, num, ratio, seed):
    query, bank, label, own = problem(seed)
    similarity = query @ bank.T
    found = rows_of(strategy, query, bank, label, own, num, ratio, generator(seed))
    assert found.shape == (7, num) and found.dtype == torch.int64
    for row in range(7):
        pool = reference.negative_pool(
            strategy, query[row], bank, label.tolist(), int(own[row]), num, ratio
        )
        chosen = found[row].tolist()
        assert len(set(chosen)) == num, 'no row twice'
        assert all(label[index] != own[row] for index in chosen)
        # Of rows that are equally similar any may stand in the pool.
        allowed = {round(similarity[row, index].item(), 5) for index in pool}
        assert {round(similarity[row, index].item(), 5) for index in chosen} <= allowed
        if strategy == 'hard':
            expected = sorted(similarity[row, list(pool)].tolist())
            assert sorted(similarity[row, chosen].tolist()) == pytest.approx(expected)


@pytest.mark.parametrize('strategy', STRATEGIES)
@pytest.mark.parametrize('num', [5, 100])
def test_similarities_are_those_of_the_rows(strategy, num):
    query, bank, label, own = problem(30)
    query.requires_grad_()
    similarity, index = sample_negatives(strategy, query, bank, label, own, num, 0.3, generator(4))
    assert not similarity.requires_grad
    torch.testing.assert_close(similarity, (query @ bank.T).gather(1, index).detach())


@pytest.mark.parametrize(('candidates', 'size'), [(70, 7), (71, 8), (69, 7), (10, 1)])
def test_the_pool_is_rounded_up(candidates, size):
    """0.1 * 70 is slightly above 7 in floating point."""
    label = torch.zeros(100, dtype=torch.int64)
    label[:candidates] = 1
    bank = unit_rows(100, 3, seed=5)
    found = rows_of(
        'semi_hard', bank[:1].expand(600, 3), bank, label, torch.zeros(600).long(), 1, 0.1,
        generator(6),
    )  # fmt: skip
    assert len(found.unique()) == size


class TestTooFew:
    @pytest.mark.parametrize('strategy', STRATEGIES)
    @pytest.mark.parametrize('num', [8, 30])
    def test_all_candidates_with_replacement(self, strategy, num):
        """7 candidates; the bank has 10 rows."""
        found = draw(strategy, num, queries=500)
        assert_uniform(found, [1, 3, 4, 6, 7, 8, 9])
        assert all(len(set(row)) < num for row in found.tolist())

    @pytest.mark.parametrize('strategy', STRATEGIES)
    def test_only_the_rows_concerned(self, strategy):
        """Cluster 0 leaves 3 others, cluster 1 leaves 9."""
        label = torch.tensor([0] * 9 + [1] * 3)
        bank = unit_rows(12, 3, seed=7)
        found = rows_of(
            strategy, bank[[0, 11]], bank, label, torch.tensor([0, 1]), 9, 0.1, generator(1)
        )
        assert set(found[0].tolist()) <= {9, 10, 11}
        assert sorted(found[1].tolist()) == list(range(9))

    @pytest.mark.parametrize('strategy', STRATEGIES)
    @pytest.mark.parametrize('num', [2, 40])
    def test_one_cluster_that_holds_all_leaves_no_negative(self, strategy, num):
        bank = unit_rows(20, 3, seed=8)
        label = torch.full((20,), 3)
        own = torch.tensor([3, 4])  # The second query's cluster is empty.
        found = sample_negatives(strategy, bank[:2], bank, label, own, num, 0.1, generator(2))
        assert NO_NEGATIVE == -1  # No row of the bank.
        assert (found.index[0] == NO_NEGATIVE).all() and (found.index[1] >= 0).all()
        assert not found.similarity[0].any() and found.similarity[1].any()


@pytest.mark.parametrize('strategy', STRATEGIES)
class TestDraws:
    def arguments(self, strategy):
        query, bank, label, own = problem(20, rows=200)
        return strategy, query, bank, label, own, 5, 0.3

    def test_follow_the_generator_and_leave_the_global_one_alone(self, strategy):
        state = torch.get_rng_state()
        one, same, other = (
            rows_of(*self.arguments(strategy), generator=generator(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(one, same)
        assert torch.equal(one, other) == (strategy == 'hard')

    def test_follow_the_global_generator_without_one(self, strategy):
        found = []
        for seed in (1, 1):
            torch.manual_seed(seed)
            found.append(rows_of(*self.arguments(strategy)))
        assert torch.equal(*found)

    def test_have_no_gradient_and_ignore_autocast(self, strategy):
        strategy, query, *others = self.arguments(strategy)
        expected = rows_of(strategy, query, *others, generator=generator(3))
        with torch.autocast('cpu', torch.bfloat16):
            found = rows_of(strategy, query.requires_grad_(), *others, generator=generator(3))
        assert torch.equal(found, expected) and not found.requires_grad

    def test_memory_does_not_grow_with_queries_times_rows(self, strategy, monkeypatch):
        monkeypatch.setattr(negatives, 'default_elements', lambda _: 2**14)
        monkeypatch.setattr('mmselfsup_invp.ops.search.CPU_ELEMENTS', 2**14)
        query, bank = unit_rows(64, 3, seed=21), unit_rows(4000, 3, seed=22)
        label = torch.arange(4000) % 9
        with Allocations() as allocations:
            rows_of(strategy, query, bank, label, label[:64], 20, 0.01)
        assert allocations.largest <= 32 * 4000 < 64 * 4000


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(strategy='easy'), "strategy = 'easy' is not valid. It must be one of 'hard', 'semi_"),
        (dict(num=0), 'num = 0 is not valid. It must be an integer from 1'),
        (dict(pool_ratio=0.0), 'pool_ratio = 0.0 is not valid.* above 0 and at most 1'),
        (dict(pool_ratio=1.5), 'pool_ratio = 1.5 is not valid'),
        (dict(query=torch.ones(1, 3)), 'query has 3 dimensions where 2 are needed'),
    ],
)
def test_wrong_arguments_are_named(options, message):
    arguments = dict(
        strategy='hard', query=QUERY, bank=BANK, labels=LABELS, anchor_label=LABELS[:1], num=2
    )
    with pytest.raises(ValueError, match=message):
        sample_negatives(**{**arguments, **options})


class TestPositive:
    @pytest.mark.parametrize(('label', 'rows'), [(0, [0, 2, 5]), (1, [1, 3, 7, 9]), (2, [4, 6, 8])])
    def test_is_uniform_over_the_cluster(self, label, rows):
        own = torch.full((6000,), label)
        assert_uniform(sample_positive(LABELS, own, generator=generator(1)), rows)

    def test_is_uniform_over_the_others_without_the_own_row(self):
        anchor = torch.tensor([1, 3, 7, 9]).repeat(2000)
        found = sample_positive(LABELS, LABELS[anchor], anchor, generator(2))
        for own in (1, 3, 7, 9):
            assert_uniform(found[anchor == own], {1, 3, 7, 9} - {own})

    def test_an_image_alone_in_its_cluster_is_its_own(self):
        label = torch.tensor([2, 0, 2, 1])
        anchor = torch.tensor([3, 1])
        assert torch.equal(sample_positive(label, label[anchor], anchor), anchor)
        assert torch.equal(sample_positive(label, label[anchor]), anchor)

    @pytest.mark.parametrize('anchor', [None, torch.tensor([0])])
    def test_an_empty_cluster_gives_some_row(self, anchor):
        found = sample_positive(torch.tensor([0, 0, 2]), torch.tensor([1]), anchor)
        assert 0 <= found < 3

    def test_follows_the_generator(self):
        own = torch.ones(50).long()
        one, same, other = (
            sample_positive(LABELS, own, generator=generator(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(one, same) and not torch.equal(one, other)


class TestLargeBanks:
    """float32 has 2**24 values in [0, 1); above as many rows some would never be drawn."""

    rows = 2**26

    def assert_reaches_every_row(self, drawn):
        # Of 4,000 draws that are multiples of 4 with probability 1 / 4, far fewer than all are.
        assert drawn.min() >= 0 and drawn.max() < self.rows
        for remainder in range(4):
            assert ((drawn % 4 == remainder).float().mean() - 0.25).abs() < 0.05

    def test_uniform_negatives_reach_every_row(self):
        anchor = torch.full((4,), self.rows - 1)
        found = sample_uniform_negatives(anchor, self.rows, 1000, generator(1))
        self.assert_reaches_every_row(found)

    def test_positives_reach_every_row(self):
        found = negatives._below(torch.full((4000,), self.rows), generator(2))
        self.assert_reaches_every_row(found)


class TestOthers:
    def test_are_uniform_over_all_other_rows(self):
        anchor = torch.tensor([0, 3, 6]).repeat(300)
        found = sample_uniform_negatives(anchor, 7, 20, generator(1))
        assert found.shape == (900, 20)
        for own in (0, 3, 6):
            assert_uniform(found[anchor == own], set(range(7)) - {own})

    def test_a_single_row_is_refused(self):
        with pytest.raises(ValueError, match='another row to tell an image from'):
            sample_uniform_negatives(torch.tensor([0]), 1, 2)


@pytest.mark.parametrize(
    ('count', 'share', 'expected'), [(90, 0.3, 27), (70, 0.1, 7), (71, 0.1, 8)]
)
def test_a_share_that_is_a_whole_number_is_not_rounded_up(count, share, expected):
    labels = torch.tensor([0] * 10 + [1] * count)
    query, bank = unit_rows(1, 4, seed=0), unit_rows(len(labels), 4, seed=1)
    drawn = [
        sample_negatives(
            'semi_hard', query, bank, labels, torch.tensor([0]), 1, share, generator(i)
        )
        for i in range(300)
    ]
    assert len({int(one.index) for one in drawn}) == expected
