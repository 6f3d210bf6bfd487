"""The search on the CPU in one pass, with a threshold that is estimated from a sample."""

import pytest
import torch

from mmselfsup_invp.ops import search, top_m
from mmselfsup_invp.ops.search import native, threshold, torch_blocks
from mmselfsup_invp.ops.search.request import Request

from ..tools import Allocations, unit_rows

pytestmark = pytest.mark.usefixtures('compiled')


def search_with_threshold(query, bank, m, limit=2**21, exclude=None):
    """The search in one pass, in C or in PyTorch; None where it is declined or misled."""
    backend = native if native.available() else torch_blocks
    return backend.search(Request(query, bank, m, exclude, None, limit))


# Scores of a row of 8192 whose 512 highest are looked for, as the sample sees them.
SAMPLED = threshold.sample_rows(torch.empty(8192), threshold.SAMPLE_STRIDE)
SCORES = {
    'random': torch.randn(8192, generator=torch.Generator().manual_seed(9)),
    'ascending': torch.linspace(-1, 1, 8192),
    'all equal': torch.ones(8192),
    'sample too high': torch.linspace(0, 0.5, 8192).index_add(0, SAMPLED, torch.ones(341)),
    'sample too low': torch.linspace(0, 0.5, 8192).index_add(0, SAMPLED, -torch.ones(341)),
    'few values': torch.linspace(0, 3, 8192).floor(),
    'not a number': torch.full((8192,), torch.nan),
}
MISLEADING = ['all equal', 'sample too high', 'sample too low', 'few values', 'not a number']


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('exclude', [False, True])
@pytest.mark.parametrize('max_elements', [2**15, None])
def test_search_with_a_threshold_is_exact(max_elements, exclude, dtype):
    query, bank = unit_rows(20, 6, seed=24), unit_rows(6000, 6, seed=25).to(dtype)
    hidden = torch.arange(20) * 250
    query[:] = bank[hidden].float()
    hidden = hidden if exclude else None
    found = search_with_threshold(query, bank, 700, max_elements or 2**21, hidden)
    assert found is not None, 'large enough for a sample'
    similarity, index = top_m(query, bank, 700, exclude=hidden, max_elements=max_elements)
    every = query.double() @ bank.double().T
    if exclude:
        every[torch.arange(20), hidden] = -torch.inf
    torch.testing.assert_close(similarity, every.topk(700)[0].float())
    torch.testing.assert_close(similarity, every.gather(1, index).float())
    assert index.dtype == torch.int64
    assert all(len(set(row)) == 700 for row in index.tolist())


@pytest.mark.parametrize('max_elements', [2**13, None])
@pytest.mark.parametrize('kind', [kind for kind in SCORES if kind != 'not a number'])
def test_wide_searches_are_exact_whatever_the_sample_says(kind, max_elements):
    bank = SCORES[kind][:, None]
    query = torch.tensor([[1.0], [-1.0], [0.5]])
    similarity, index = top_m(query, bank, 512, max_elements=max_elements)
    scores = query @ bank.T
    assert torch.equal(similarity, scores.sort(dim=1, descending=True).values[:, :512])
    assert torch.equal(similarity, scores.gather(1, index))
    assert all(len(set(row)) == 512 for row in index.tolist())


@pytest.mark.parametrize('max_elements', [2**11, 2**21])
@pytest.mark.parametrize('kind', SCORES)
def test_the_threshold_is_given_up_only_where_the_sample_misleads(kind, max_elements):
    found = search_with_threshold(torch.ones(1, 1), SCORES[kind][:, None], 512, max_elements)
    assert (found is None) == (kind in MISLEADING)


@pytest.mark.parametrize(
    ('queries', 'rows', 'm', 'limit'),
    [(0, 9000, 600, 2**21), (1, 9000, 9, 2**21), (1, 9000, 1200, 2**21), (9, 9000, 600, 2**11)],
)
def test_no_threshold_where_it_is_not_worthwhile(queries, rows, m, limit):
    query, bank = unit_rows(queries, 3, seed=26), unit_rows(rows, 3, seed=27)
    assert search_with_threshold(query, bank, m, limit) is None


def test_blocks_of_few_columns_are_worth_it_in_c_alone(compiled):
    query, bank = unit_rows(9, 3, seed=26), unit_rows(9000, 3, seed=27)
    found = search_with_threshold(query, bank, 1000, 2**13)
    assert (found is not None) == compiled


def test_memory_of_a_search_with_a_threshold_is_bounded(compiled):
    query, bank = unit_rows(64, 4, seed=28), unit_rows(40_000, 4, seed=29)
    with Allocations() as allocations:
        top_m(query, bank, 600)
    block = torch_blocks.CACHED_ELEMENTS
    assert allocations.largest < block / 4 if compiled else allocations.largest == block
    assert block < 64 * 40_000 / 4


@pytest.mark.parametrize('sampled', [False, True])
def test_a_row_that_is_not_a_number_is_dealt_with_as_by_pytorch(sampled, compiled, monkeypatch):
    """The sample holds it, so that topk searches and ranks it first, or no threshold is passed."""
    query, bank = unit_rows(5, 4, seed=36), unit_rows(9000, 4, seed=37)
    rows = threshold.sample_rows(bank, threshold.SAMPLE_STRIDE).tolist()
    where = rows[7] if sampled else next(row for row in range(9000) if row not in rows)
    bank[where] = torch.nan
    similarity, index = top_m(query, bank, 1000)
    monkeypatch.setattr(native, 'available', lambda: False)
    expected = top_m(query, bank, 1000)
    torch.testing.assert_close(similarity, expected[0], equal_nan=True)
    assert ((index == where).any(dim=1) == sampled).all()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason='needs oneDNN')
def test_products_of_onednn_are_those_of_blas():
    query, bank = unit_rows(9, 100, seed=30), unit_rows(70, 100, seed=31)
    for rows in (bank, bank[::3], bank.half(), bank[:1]):
        torch.testing.assert_close(
            torch_blocks._onednn_similarities(query, rows), search.similarities(query, rows)
        )


def test_threshold_without_onednn(monkeypatch):
    query, bank = unit_rows(5, 4, seed=32), unit_rows(6000, 4, seed=33)
    expected = top_m(query, bank, 500)
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    torch.testing.assert_close(top_m(query, bank, 500)[0], expected[0])
