from itertools import combinations

import pytest
import torch

from mmselfsup_invp.ops import positives
from mmselfsup_invp.ops.positives import contains, select_positives

from . import reference


def random_positives(rows: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(rows, length, generator=generator) * 2 - 1
    return similarity, torch.rand(rows, length, generator=generator) < 0.6


@pytest.mark.parametrize('hard', ['hard', 'easy', 'all'])
@pytest.mark.parametrize('num', [1, 3, 7, 50])
def test_selection_is_that_of_a_sort(hard, num):
    similarity, mask = random_positives(30, 9, seed=0)
    mask[0] = False
    mask[1] = True
    column = select_positives(similarity, mask, num, hard)
    assert column.shape == (30, 9 if hard == 'all' else min(num, 9))
    for row in range(30):
        positive = mask[row].nonzero().flatten().tolist()
        order = reference.choose(similarity[row][mask[row]].tolist(), num, hard)
        chosen = [entry for entry in column[row].tolist() if mask[row, entry]]
        assert sorted(chosen) == sorted(positive[position] for position in order)
        assert len(set(column[row].tolist())) == column.size(1), 'no column twice'


def test_random_choice_is_uniform_over_the_positives():
    draws, length = 20_000, 6
    mask = torch.tensor([True, True, False, True, True, True]).expand(draws, length)
    similarity = torch.arange(6.0).expand(draws, length)
    generator = torch.Generator().manual_seed(1)
    column = select_positives(similarity, mask, 2, 'random', generator).sort(dim=1).values
    pairs = list(combinations([0, 1, 3, 4, 5], 2))
    counts = torch.tensor([(column == torch.tensor(pair)).all(dim=1).sum() for pair in pairs])
    assert counts.sum() == draws, 'only positives, none twice'
    expected = draws / len(pairs)
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    assert statistic < 27.9, 'chi-square with 9 degrees of freedom exceeds this once in 1000'


def test_random_choice_takes_all_where_there_are_few():
    similarity, mask = random_positives(50, 8, seed=2)
    column = select_positives(similarity, mask, 6, 'random')
    found = mask.gather(1, column).sum(dim=1)
    assert torch.equal(found, mask.sum(dim=1).clamp(max=6))


def test_random_choice_follows_the_generator():
    similarity, mask = random_positives(20, 30, seed=3)

    def draw(seed: int) -> torch.Tensor:
        return select_positives(similarity, mask, 5, 'random', torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert torch.equal(draw(7), draw(7))
    assert not torch.equal(draw(7), draw(8))
    assert torch.equal(torch.get_rng_state(), before), 'the global generator stays as it is'


def test_random_choice_follows_the_global_seed():
    similarity, mask = random_positives(20, 30, seed=4)
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(select_positives(similarity, mask, 5, 'random'))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_unknown_selection_lists_the_names():
    similarity, mask = random_positives(2, 3, seed=5)
    with pytest.raises(ValueError, match="one of 'hard', 'easy', 'random', 'all'"):
        select_positives(similarity, mask, 1, 'hardest')


def test_no_positives_to_choose_are_refused():
    similarity, mask = random_positives(2, 3, seed=6)
    with pytest.raises(ValueError, match='num = 0 is not valid. It must be an integer from 1'):
        select_positives(similarity, mask, 0)


@pytest.mark.parametrize('size', [None, 40, 1000])
@pytest.mark.parametrize('limit', [1, 100, 2**21])
@pytest.mark.parametrize(('length', 'width'), [(1, 1), (6, 30), (84, 12)])
def test_contains_is_the_loop(length, width, limit, size, monkeypatch):
    monkeypatch.setattr(positives, 'default_elements', lambda device: limit)
    generator = torch.Generator().manual_seed(length)
    members = torch.randint(0, 40, (11, length), generator=generator)
    mask = torch.rand(11, length, generator=generator) < 0.5
    mask[3] = False
    index = torch.randint(0, 40, (11, width), generator=generator)
    expected = [
        [entry in row[keep].tolist() for entry in entries.tolist()]
        for row, keep, entries in zip(members, mask, index, strict=True)
    ]
    assert contains(members, mask, index, size=size).tolist() == expected
    assert positives._binary_searched(members, mask, index, None).tolist() == expected, 'on a GPU'


def test_a_masked_member_does_not_hide_a_counted_one():
    members, mask = torch.tensor([[4, 4, 0]]), torch.tensor([[True, False, False]])
    for contained in (positives._marked, positives._binary_searched):
        assert contained(members, mask, torch.tensor([[4, 0]]), None).tolist() == [[True, False]]
