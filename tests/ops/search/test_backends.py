"""Every way to search gives what the definition in float64 gives, and says when it cannot."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmselfsup_invp.ops import knn_graph, search, top_m
from mmselfsup_invp.ops.search import threshold, torch_blocks
from mmselfsup_invp.ops.search.request import Request

from ..tools import Allocations, unit_rows

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(params=['cpu', 'cuda'])
def device(request) -> str:
    if request.param == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    return request.param


@pytest.fixture(params=search.BACKENDS)
def backend(request, device) -> str:
    """Each backend that can be used on a device."""
    plain = Request(torch.ones(1, 1, device=device), torch.ones(1, 1, device=device), 1)
    if reason := search.BACKENDS[request.param].unsupported_reason(plain):
        pytest.skip(reason)
    return request.param


def options(case: Request) -> dict:
    return dict(exclude=case.exclude, labels=case.labels)


def expected(case: Request) -> Tensor:
    """All similarities in float64, -inf where hidden."""
    every = case.query.double() @ case.bank.double().T
    if case.exclude is not None:
        every[torch.arange(len(every)), case.exclude] = -torch.inf
    if case.labels is not None:
        query_label, bank_label = case.labels
        every.masked_fill_(bank_label == query_label[:, None], -torch.inf)
    return every


def to(device: str, case: Request) -> Request:
    labels = case.labels and tuple(label.to(device) for label in case.labels)
    exclude = None if case.exclude is None else case.exclude.to(device)
    return Request(case.query.to(device), case.bank.to(device), case.m, exclude, labels)


def assert_exact(case: Request, backend: str, device: str) -> None:
    """The highest similarities, each that of its row, no row twice."""
    case = to(device, case)
    similarity, index = top_m(case.query, case.bank, case.m, backend=backend, **options(case))
    every = expected(case)
    assert similarity.dtype == torch.float32 and index.dtype == torch.int64
    # Sums of D products in float32 are off by a few roundings of the norms' product, and queries
    # rounded to 16 bits by some more.
    scale = case.query.double().norm(dim=1).max() * case.bank.double().norm(dim=1).max()
    rounded = backend == 'triton' and case.bank.dtype == torch.bfloat16
    tolerance = dict(rtol=1e-5, atol=(2**-16 if rounded else 1e-6) * scale.item())
    torch.testing.assert_close(similarity.double(), every.topk(case.m).values, **tolerance)
    torch.testing.assert_close(similarity.double(), every.gather(1, index), **tolerance)
    assert all(len(set(row)) == case.m for row in index.tolist())


def equal_rows(rows: int, dim: int, seed: int) -> Tensor:
    return unit_rows(1, dim, seed).repeat(rows, 1)


def repeated_rows(rows: int, dim: int, seed: int) -> Tensor:
    return unit_rows(7, dim, seed).repeat(rows // 7 + 1, 1)[:rows]


def dense_cluster(rows: int, dim: int, seed: int) -> Tensor:
    """A quarter of the rows stand side by side and close together."""
    bank = unit_rows(rows, dim, seed)
    bank[: rows // 4] = F.normalize(bank[0] + 0.01 * bank[: rows // 4])
    return bank


def sorted_rows(rows: int, dim: int, seed: int) -> Tensor:
    """By their similarity with the first row, which is the first query."""
    bank = unit_rows(rows, dim, seed)
    return bank[(bank @ bank[0]).argsort()]


def tiny_and_huge(rows: int, dim: int, seed: int) -> Tensor:
    norm = 10 ** torch.linspace(-4, 3, rows)
    return unit_rows(rows, dim, seed) * norm[:, None]


BANKS = dict(
    random=unit_rows, equal=equal_rows, repeated=repeated_rows, cluster=dense_cluster,
    sorted=sorted_rows, norms=tiny_and_huge,
)  # fmt: skip


def draw_case(kind: str, dtype: torch.dtype, seed: int) -> Request:
    draw = random.Random(f'{kind} {dtype} {seed}')
    rows, dim = draw.randint(100, 300), draw.choice([3, 16, 20])
    queries = draw.choice([1, 2, 3])
    bank = BANKS[kind](rows, dim, seed).to(dtype)
    anchor = torch.tensor(draw.sample(range(rows), queries))
    query = bank[anchor].float() + 0.1 * unit_rows(queries, dim, seed + 1)
    if seed == 1:
        query *= 10.0 ** draw.choice([-6, 6])
    exclude = anchor if draw.random() < 0.6 else None
    most = rows if exclude is None else rows - 1
    return Request(query, bank, draw.choice([1, 4, 12, 12, most]), exclude)


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', BANKS)
def test_search_is_exact_whatever_the_bank(kind, dtype, seed, backend, device, small_samples):
    assert_exact(draw_case(kind, dtype, seed), backend, device)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', ['random', 'cluster'])
def test_rows_of_the_same_label_are_hidden(kind, dtype, backend, device, small_samples):
    """The second query sees all rows, the third fewer than a sample needs."""
    if backend == 'faiss':
        pytest.skip('without labels')
    bank = BANKS[kind](200, 16, 3).to(dtype)
    label = torch.where(torch.arange(200) % 20 == 0, torch.arange(200) // 20, 99)
    labels = torch.tensor([0, 55, 99]), label
    case = to(device, Request(unit_rows(3, 16, 4), bank, 10, torch.tensor([8, 20, 40]), labels))
    every = expected(case)
    assert every.isfinite().sum(dim=1).tolist() == [198, 199, 9]
    similarity, index = top_m(case.query, case.bank, 10, backend=backend, **options(case))
    torch.testing.assert_close(similarity, every.topk(10).values.float(), rtol=1e-5, atol=2**-16)
    found = similarity.isfinite()
    theirs = every.gather(1, index).float()
    torch.testing.assert_close(similarity[found], theirs[found], rtol=1e-5, atol=2**-16)
    rows = [row[keep] for row, keep in zip(index, found, strict=True)]
    assert [len(row.unique()) for row in rows] == found.sum(dim=1).tolist() == [10, 10, 9]


def test_no_query_finds_nothing(backend, device):
    query, bank = torch.ones(0, 3, device=device), torch.ones(40, 3, device=device)
    similarity, index = top_m(query, bank, 2, backend=backend)
    assert similarity.shape == index.shape == (0, 2)


def test_a_query_with_a_gradient_and_columns_with_gaps(backend, device, small_samples):
    bank = unit_rows(20, 200, seed=5).to(device).T
    query = unit_rows(2, 20, seed=6).to(device).requires_grad_()
    similarity, index = top_m(query, bank, 7, backend=backend)
    torch.testing.assert_close(similarity, (query.detach() @ bank.T).topk(7).values)
    assert not similarity.requires_grad and index.shape == (2, 7)


@pytest.mark.parametrize('mode', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('dtype', DTYPES)
def test_autocast_changes_nothing(dtype, mode, backend, device, small_samples):
    query = unit_rows(2, 20, seed=17).to(device)
    bank = unit_rows(150, 20, seed=18).to(device, dtype)
    expected = top_m(query, bank, 7, backend=backend)
    with torch.autocast(device, dtype=mode):
        found = top_m(query, bank, 7, backend=backend)
    assert torch.equal(found.similarity, expected.similarity)
    assert torch.equal(found.index, expected.index)


def test_unsorted_is_the_same_set(backend, device, small_samples):
    query, bank = unit_rows(2, 8, seed=7).to(device), unit_rows(200, 8, seed=8).to(device)
    similarity, index = top_m(query, bank, 9, sort=False, backend=backend)
    every = query @ bank.T
    torch.testing.assert_close(similarity.sort(dim=1, descending=True).values, every.topk(9).values)
    torch.testing.assert_close(similarity, every.gather(1, index))


def test_queries_in_several_blocks(backend, device, small_samples, monkeypatch):
    if backend == 'faiss':
        pytest.skip('without labels')
    monkeypatch.setattr(threshold, 'GPU_QUERIES', 3)
    bank, label = unit_rows(300, 8, seed=14), torch.arange(300) % 4
    own = torch.arange(8) * 30
    assert_exact(Request(bank[own] + 0.1, bank, 5, own, (label[own], label)), backend, device)


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_query_that_is_no_number_finds_rows_it_may_find(dtype, backend, device, small_samples):
    """Similarities that are none, of rows that are not hidden, no row twice; no second search."""
    if backend == 'faiss':
        pytest.skip('without labels')
    bank = unit_rows(300, 8, seed=15).to(device, dtype)
    query = unit_rows(2, 8, seed=16).to(device)
    query[1, 3] = torch.nan
    own, label = torch.tensor([0, 4], device=device), torch.arange(300, device=device) % 3
    search.reset_fallbacks()
    labels = label[own], label
    similarity, index = top_m(query, bank, 5, exclude=own, labels=labels, backend=backend)
    assert similarity[0].isfinite().all() and similarity[1].isnan().all()
    assert len(set(index[1].tolist())) == 5
    assert (label[index[1]] != label[4]).all()
    assert backend != 'triton' or search.fallbacks() == 0


def test_graph_of_each_backend(backend, device, small_samples):
    bank = unit_rows(130, 8, seed=9).to(device)
    graph = knn_graph(bank, 3, backend=backend)
    similarity = (bank @ bank.T).fill_diagonal_(-2)
    torch.testing.assert_close(similarity.gather(1, graph), similarity.topk(3).values)


def test_memory_of_the_graph_does_not_grow_with_its_square(backend, device, monkeypatch):
    """As large as the largest block, whatever N: here a hundredth of N x N."""
    if backend == 'triton' or device == 'cuda':
        pytest.skip('its interpreter is too slow for a large bank; a GPU takes larger blocks')
    monkeypatch.setattr(search, 'CPU_ELEMENTS', 2**16)
    bank = unit_rows(3000, 4, seed=10)
    with Allocations() as allocations:
        graph = knn_graph(bank, 4, backend=backend)
    assert graph.shape == (3000, 4)
    assert allocations.largest <= max(2**16, torch_blocks.ROW_GROUP * 3000) < 3000**2 / 80


class TestFallbacks:
    def test_count_queries_searched_again(self, backend, device, small_samples):
        if backend == 'faiss' or (backend, device) == ('torch', 'cuda'):
            pytest.skip('takes no sample')
        search.reset_fallbacks()
        bank = unit_rows(400, 4, seed=11).to(device)
        top_m(bank[:3], bank, 40 if backend != 'triton' else 12, backend=backend)
        before = search.fallbacks()
        ones = torch.ones(400, 4, device=device)
        top_m(ones[:3], ones, 40, backend=backend)
        assert search.fallbacks() == before + 3
        search.reset_fallbacks()
        assert search.fallbacks() == 0

    def test_counter_made_in_inference_mode(self, monkeypatch):
        monkeypatch.setattr(threshold, '_fallbacks', {})
        bank = torch.ones(9000, 2)
        with torch.inference_mode():
            top_m(bank[:2], bank, 1000)
        top_m(bank[:2], bank, 1000)
        assert search.fallbacks() == 4
