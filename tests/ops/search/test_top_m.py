import pytest
import torch

from mmselfsup_invp.ops import search, top_m
from mmselfsup_invp.ops.search import products, torch_blocks

from .. import reference
from ..tools import Allocations, unit_rows

pytestmark = pytest.mark.usefixtures('compiled')


def assert_search(result, query, bank, m, hidden=None):
    """Check a search: the right similarities, each that of its row, and no row twice."""
    similarity, index = result
    every = reference.similarities(query, bank)
    if hidden is not None:
        every[torch.arange(len(query)), hidden] = -torch.inf
    expected = every.sort(dim=1, descending=True).values[:, :m].float()
    assert similarity.dtype == torch.float32 and index.dtype == torch.int64
    torch.testing.assert_close(similarity.sort(dim=1, descending=True).values, expected)
    torch.testing.assert_close(similarity, every.gather(1, index).float())
    assert all(len(set(row)) == m for row in index.tolist())


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ('queries', 'rows', 'm'), [(1, 1, 1), (1, 40, 7), (5, 40, 1), (5, 40, 40), (70, 33, 20)]
)
def test_top_m_is_the_brute_force_result(queries, rows, m, dtype):
    query, bank = unit_rows(queries, 6, seed=0), unit_rows(rows, 6, seed=1).to(dtype)
    similarity, index = top_m(query, bank, m)
    assert_search((similarity, index), query, bank, m)
    assert torch.equal(similarity, similarity.sort(dim=1, descending=True).values)


@pytest.mark.parametrize('max_elements', [1, 40, 333, 2**11, 2**13, 2**24])
@pytest.mark.parametrize('exclude', [False, True])
def test_block_size_does_not_change_the_result(max_elements, exclude):
    query, bank = unit_rows(40, 5, seed=2), unit_rows(150, 5, seed=3)
    hidden = torch.arange(40) * 3 if exclude else None
    result = top_m(query, bank, 11, exclude=hidden, max_elements=max_elements)
    assert_search(result, query, bank, 11, hidden)


@pytest.mark.parametrize('max_elements', [1, None])
def test_excluded_rows_are_never_found(max_elements):
    bank = unit_rows(60, 4, seed=4)
    anchor = torch.arange(60)
    result = top_m(bank, bank, 59, exclude=anchor, max_elements=max_elements)
    assert not (result[1] == anchor[:, None]).any()
    assert_search(result, bank, bank, 59, anchor)


@pytest.mark.parametrize('max_elements', [1, None])
def test_ties_give_distinct_rows(max_elements):
    bank = unit_rows(8, 4, seed=5).repeat(5, 1)
    query = unit_rows(3, 4, seed=6)
    assert_search(top_m(query, bank, 12, max_elements=max_elements), query, bank, 12)


@pytest.mark.parametrize('m', [1, 9, 500])
@pytest.mark.parametrize('max_elements', [1, None])
def test_unsorted_is_the_same_set(m, max_elements):
    query, bank = unit_rows(4, 3, seed=7), unit_rows(4500, 3, seed=8)
    similarity, index = top_m(query, bank, m, sort=False, max_elements=max_elements)
    expected = top_m(query, bank, m, max_elements=max_elements)
    assert torch.equal(similarity.sort(dim=1, descending=True).values, expected[0])
    assert torch.equal(index.sort(dim=1).values, expected[1].sort(dim=1).values)
    torch.testing.assert_close(similarity, (query @ bank.T).gather(1, index))


@pytest.mark.parametrize('max_elements', [2**13, 2**15, None])
@pytest.mark.parametrize(('rows', 'm'), [(60, 9), (6000, 700)])
def test_rows_of_the_same_label_are_not_found(rows, m, max_elements):
    query, bank = unit_rows(20, 6, seed=34), unit_rows(rows, 6, seed=35)
    label, own = torch.arange(rows) % 5, torch.arange(20) % 6
    similarity, index = top_m(query, bank, m, labels=(own, label), max_elements=max_elements)
    every = (query @ bank.T).masked_fill(label == own[:, None], -torch.inf)
    torch.testing.assert_close(similarity, every.topk(m)[0])
    torch.testing.assert_close(similarity, every.gather(1, index))
    assert (label[index] != own[:, None]).all()


def test_too_few_rows_of_other_labels_end_in_minus_infinity():
    bank, label = unit_rows(10, 3, seed=36), torch.tensor([0] * 6 + [1] * 4)
    similarity, _ = top_m(bank[:2], bank, 6, labels=(torch.tensor([0, 1]), label))
    assert (similarity.isneginf().sum(dim=1) == torch.tensor([2, 0])).all()
    assert similarity[0, :4].isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('m', [4, 600])
def test_memory_is_bounded_whatever_the_bank(m, dtype):
    limit = 2**16
    query, bank = unit_rows(70, 4, seed=10), unit_rows(40_000, 4, seed=11).to(dtype)
    with Allocations() as allocations:
        top_m(query, bank, m, max_elements=limit)
    # Results of a batch, or two blocks of them being merged.
    assert allocations.largest <= max(limit, 70 * m, torch_blocks.ROW_GROUP * 2 * m)


def test_a_whole_pass_takes_one_block_by_default():
    query, bank = unit_rows(32, 4, seed=12), unit_rows(1000, 4, seed=13)
    with Allocations() as allocations:
        top_m(query, bank, 10)
    assert allocations.largest == 32 * 1000


def test_a_half_precision_bank_is_upcast_in_parts():
    query, bank = unit_rows(3, 4, seed=21), unit_rows(products.UPCAST_ROWS + 9, 4, seed=22).half()
    with Allocations() as allocations:
        similarity, index = top_m(query, bank, 50)
    expected = query @ bank.float().T
    torch.testing.assert_close(similarity, expected.topk(50)[0])
    torch.testing.assert_close(similarity, expected.gather(1, index))
    assert allocations.largest == products.UPCAST_ROWS * 4 < bank.numel()


def test_no_gradient_flows_through_the_search():
    query = unit_rows(3, 4, seed=14).requires_grad_()
    bank = unit_rows(9, 4, seed=15).requires_grad_()
    assert not top_m(query, bank, 2)[0].requires_grad


@pytest.mark.parametrize(('rows', 'm'), [(50, 5), (4500, 500)])
def test_autocast_does_not_lower_the_precision(rows, m):
    query, bank = unit_rows(4, 32, seed=16), unit_rows(rows, 32, seed=17)
    with torch.autocast('cpu', torch.bfloat16):
        similarity, index = top_m(query, bank, m)
    expected = top_m(query, bank, m)
    assert torch.equal(similarity, expected[0]) and torch.equal(index, expected[1])


def test_an_empty_batch_finds_nothing():
    similarity, index = top_m(torch.empty(0, 4), unit_rows(9, 4, seed=18), 3)
    assert similarity.shape == index.shape == (0, 3)


def rows_with_ties():
    """Similarities of both signs and all magnitudes, some of them equal, adjacent, -inf or -0."""
    similarity = torch.randn(3, 9, generator=torch.Generator().manual_seed(11))
    similarity[0, :5] = 1 + torch.tensor([3, 0, 2, 1, 2]) * torch.finfo(torch.float32).eps
    similarity[2] *= 10.0 ** torch.arange(-4, 5)
    similarity[1] = torch.tensor([0.5, -0.5, 0.5, 0.0, -0.0, 0.5, -0.5, -torch.inf, -torch.inf])
    return similarity


@pytest.mark.parametrize('num', [[0, 5, 9], [9, 9, 9], [1, 1, 2], [4, 2, 3], [1, 8, 1]])
def test_the_nearest_first_are_those_of_a_sort(num, compiled):
    similarity = rows_with_ties()
    index = torch.randperm(27, generator=torch.Generator().manual_seed(12)).view(3, 9)
    before = similarity.clone()
    values, rows = search.nearest_first(similarity, index, torch.tensor(num))
    assert torch.equal(similarity, before)
    row_of = dict(zip(index.flatten().tolist(), before.flatten().tolist(), strict=True))
    for row, first in enumerate(num):
        own = values[row, :first]
        assert torch.equal(own.sort(descending=True).values, before[row].topk(first).values)
        assert [row_of[place] for place in rows[row, :first].tolist()] == own.tolist()
        assert len(rows[row, :first].unique()) == first


@pytest.mark.parametrize('num', [0, 1, 2, 5, 9, 16, 17, 500])
def test_the_nearest_few_are_those_of_a_sort(num, compiled):
    generator = torch.Generator().manual_seed(13)
    similarity = torch.cat([rows_with_ties(), torch.rand(3, 40, generator=generator)], dim=1)
    index = torch.randperm(147, generator=generator).view(3, 49)
    values, rows = search.nearest_few(search.Neighbours(similarity, index), num)
    assert torch.equal(values, similarity.topk(min(num, 49), dim=1).values)
    for row, found in enumerate(rows):
        column = (index[row] == found[:, None]).nonzero()[:, 1]
        assert torch.equal(similarity[row, column], values[row])
        assert len(found.unique()) == len(found)


@pytest.mark.parametrize('num', [1, 2, 5, 9])
def test_the_highest_columns_are_those_of_a_sort(num, compiled):
    values = rows_with_ties()
    columns = search.highest_columns(values.clone(), num)
    assert columns.dtype == torch.int64 and columns.shape == (3, num)
    found = values.gather(1, columns).sort(dim=1, descending=True).values
    assert torch.equal(found, values.topk(num, dim=1).values)
    assert all(len(row.unique()) == num for row in columns)
