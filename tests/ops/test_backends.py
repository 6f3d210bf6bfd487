"""Every way to search gives what the definition in float64 gives, and says when it cannot."""

import random
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmselfsup_invp import ops
from mmselfsup_invp.ops import blocks, devices, flat, knn_graph, native, search, sieve, top_m

from .tools import Allocations, NeverWaits, unit_rows

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(params=search.BACKENDS)
def backend(request) -> str:
    """Each backend that can be used here."""
    hidden, bank = blocks.Hidden(), torch.ones(1, 1)
    if reason := search.BACKENDS[request.param].obstacle(hidden, bank, 1):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def small_samples(monkeypatch):
    """Let a few hundred rows be enough for a sample, and let it mislead now and then."""
    monkeypatch.setattr(sieve, 'SAMPLE_STRIDE', 3)
    monkeypatch.setattr(sieve, 'SAMPLE_RANK', 3)
    monkeypatch.setattr(sieve, 'DEVICE_DEVIATIONS', 1)
    monkeypatch.setattr(sieve, 'CPU_DEVIATIONS', 1)


@dataclass
class Case:
    """One search and what it is about."""

    query: Tensor
    bank: Tensor
    m: int
    exclude: Tensor | None = None
    bank_label: Tensor | None = None
    query_label: Tensor | None = None

    def options(self) -> dict[str, Tensor | None]:
        return dict(exclude=self.exclude, bank_label=self.bank_label, query_label=self.query_label)

    def expected(self) -> Tensor:
        """All similarities in float64, -inf where hidden."""
        every = self.query.double() @ self.bank.double().T
        if self.exclude is not None:
            every[torch.arange(len(every)), self.exclude] = -torch.inf
        if self.bank_label is not None:
            every.masked_fill_(self.bank_label == self.query_label[:, None], -torch.inf)
        return every


def assert_exact(case: Case, backend: str) -> None:
    """The highest similarities, each that of its row, no row twice."""
    similarity, index = top_m(case.query, case.bank, case.m, backend=backend, **case.options())
    every = case.expected()
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


def draw_case(kind: str, dtype: torch.dtype, seed: int) -> Case:
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
    return Case(query, bank, draw.choice([1, 4, 12, 12, most]), exclude)


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', BANKS)
def test_search_is_exact_whatever_the_bank(kind, dtype, seed, backend, small_samples):
    assert_exact(draw_case(kind, dtype, seed), backend)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', ['random', 'cluster'])
def test_rows_of_the_same_label_are_hidden(kind, dtype, backend, small_samples):
    """The second query sees all rows, the third fewer than a sample needs."""
    if backend == 'faiss':
        pytest.skip('without labels')
    bank = BANKS[kind](200, 16, 3).to(dtype)
    label = torch.where(torch.arange(200) % 20 == 0, torch.arange(200) // 20, 99)
    case = Case(
        unit_rows(3, 16, 4), bank, 10, torch.tensor([8, 20, 40]), label, torch.tensor([0, 55, 99])
    )
    every = case.expected()
    assert every.isfinite().sum(dim=1).tolist() == [198, 199, 9]
    similarity, index = top_m(case.query, bank, 10, backend=backend, **case.options())
    torch.testing.assert_close(similarity, every.topk(10).values.float(), rtol=1e-5, atol=2**-16)
    found = similarity.isfinite()
    theirs = every.gather(1, index).float()
    torch.testing.assert_close(similarity[found], theirs[found], rtol=1e-5, atol=2**-16)
    rows = [row[keep] for row, keep in zip(index, found, strict=True)]
    assert [len(row.unique()) for row in rows] == found.sum(dim=1).tolist() == [10, 10, 9]


def test_no_query_finds_nothing(backend):
    similarity, index = top_m(torch.ones(0, 3), torch.ones(40, 3), 2, backend=backend)
    assert similarity.shape == index.shape == (0, 2)


def test_a_query_with_a_gradient_and_columns_with_gaps(backend, small_samples):
    bank = unit_rows(20, 200, seed=5).T
    query = unit_rows(2, 20, seed=6).requires_grad_()
    similarity, index = top_m(query, bank, 7, backend=backend)
    torch.testing.assert_close(similarity, (query.detach() @ bank.T).topk(7).values)
    assert not similarity.requires_grad and index.shape == (2, 7)


def test_unsorted_has_the_least_similar_last(backend, small_samples):
    query, bank = unit_rows(2, 8, seed=7), unit_rows(200, 8, seed=8)
    similarity, _ = top_m(query, bank, 9, sort=False, backend=backend)
    expected = (query @ bank.T).topk(9).values
    torch.testing.assert_close(similarity.sort(dim=1, descending=True).values, expected)
    torch.testing.assert_close(similarity[:, -1], expected[:, -1])


def test_queries_in_several_blocks(backend, small_samples, monkeypatch):
    if backend == 'faiss':
        pytest.skip('without labels')
    monkeypatch.setattr(sieve, 'DEVICE_QUERIES', 3)
    bank, label = unit_rows(300, 8, seed=14), torch.arange(300) % 4
    own = torch.arange(8) * 30
    assert_exact(Case(bank[own] + 0.1, bank, 5, own, label, label[own]), backend)


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_query_that_is_no_number_finds_rows_it_may_find(dtype, backend, small_samples):
    """Similarities that are none, of rows that are not hidden, no row twice; no second search."""
    if backend == 'faiss':
        pytest.skip('without labels')
    bank, label = unit_rows(300, 8, seed=15).to(dtype), torch.arange(300) % 3
    query = unit_rows(2, 8, seed=16)
    query[1, 3] = torch.nan
    own = torch.tensor([0, 4])
    sieve.reset_fallbacks()
    similarity, index = top_m(
        query, bank, 5, exclude=own, bank_label=label, query_label=label[own], backend=backend
    )
    assert similarity[0].isfinite().all() and similarity[1].isnan().all()
    assert len(set(index[1].tolist())) == 5
    assert (label[index[1]] != label[4]).all()
    assert backend != 'triton' or sieve.fallbacks() == 0


def test_graph_of_each_backend(backend, small_samples):
    bank = unit_rows(130, 8, seed=9)
    graph = knn_graph(bank, 3, backend=backend)
    similarity = (bank @ bank.T).fill_diagonal_(-2)
    torch.testing.assert_close(similarity.gather(1, graph), similarity.topk(3).values)


def test_memory_of_the_graph_does_not_grow_with_its_square(backend, monkeypatch):
    """As large as the largest block, whatever N: here a hundredth of N x N."""
    if backend == 'triton':
        pytest.skip('its interpreter is too slow for a large bank')
    monkeypatch.setattr(search, 'CPU_ELEMENTS', 2**16)
    bank = unit_rows(3000, 4, seed=10)
    with Allocations() as allocations:
        graph = knn_graph(bank, 4, backend=backend)
    assert graph.shape == (3000, 4)
    assert allocations.largest <= max(2**16, blocks.ROW_GROUP * 3000) < 3000**2 / 80


class TestPlan:
    # Queries, rows of the bank and rows to find: objective, graph, a larger bank, the inter branch.
    SIZES = [
        (128, 1281167, 4097), (1024, 1281167, 4), (128, 10**7, 4097), (32, 1281167, 128117),
        (50_000, 1281167, 20), (50_000, 10**7, 200),
    ]  # fmt: skip

    @pytest.mark.parametrize(('queries', 'rows', 'm'), SIZES)
    def test_memory_is_bounded(self, queries, rows, m):
        limit = search.DEVICE_ELEMENTS
        queries = min(queries, sieve._device_queries(rows, limit))
        plan = sieve._device_plan(queries, rows, m, limit)
        assert (rows // plan.stride) * queries <= limit
        # Similarity and row of what may pass.
        assert 8 * queries * plan.width <= max(2**25, 2.5 * 8 * queries * m)

    @pytest.mark.parametrize(('queries', 'rows', 'm'), SIZES)
    def test_a_random_sample_hardly_ever_misleads(self, queries, rows, m):
        """The share of rows above the threshold has a beta distribution."""
        queries = min(queries, sieve._device_queries(rows, search.DEVICE_ELEMENTS))
        plan = sieve._device_plan(queries, rows, m, search.DEVICE_ELEMENTS)
        sampled = rows // plan.stride
        share = torch.distributions.Beta(float(plan.rank), float(sampled - plan.rank + 1))
        count = rows * share.sample((100_000,)).double()
        misled = (count < m) | (count > plan.width)
        assert misled.sum() <= 10

    @pytest.mark.parametrize('sampled', [1.0, -1.0, 0.0])
    @pytest.mark.parametrize('m', [1, 4, 13])
    def test_no_sample_lets_too_few_of_a_small_search_pass(self, m, sampled):
        """Not one of the highest, nor of the lowest, nor where it holds the rows themselves."""
        bank = unit_rows(20_000, 8, seed=16)
        plan = sieve._device_plan(40, len(bank), m, search.DEVICE_ELEMENTS)
        rows = sieve._sample(bank, plan.stride)
        bank[:, 0] = 0.1 * bank[:, 0]
        bank[rows, 0] += sampled
        own = rows[:40]
        query = bank[own]
        threshold = sieve._threshold(query, blocks.Hidden(own), bank, plan)
        passes = query @ bank.T >= threshold[:, None] - 1e-6
        passes[torch.arange(40), own] = False
        assert plan.rank == m + sieve.SPARE_RANKS and (passes.sum(dim=1) >= m).all()

    def test_small_banks_are_not_sampled(self):
        assert sieve._device_plan(128, 20_000, 4097, search.DEVICE_ELEMENTS) is None
        assert sieve._device_plan(0, 10**6, 4, search.DEVICE_ELEMENTS) is None


class TestFallbacks:
    def test_count_queries_searched_again(self, backend, small_samples):
        if backend == 'faiss':
            pytest.skip('takes no sample')
        sieve.reset_fallbacks()
        bank = unit_rows(400, 4, seed=11)
        top_m(bank[:3], bank, 40 if backend != 'triton' else 12, backend=backend)
        before = sieve.fallbacks()
        top_m(torch.ones(3, 4), torch.ones(400, 4), 40, backend=backend)
        assert sieve.fallbacks() == before + 3
        sieve.reset_fallbacks()
        assert sieve.fallbacks() == 0

    def test_counter_made_in_inference_mode(self, monkeypatch):
        monkeypatch.setattr(sieve, '_counters', {})
        bank = torch.ones(9000, 2)
        with torch.inference_mode():
            top_m(bank[:2], bank, 1000)
        top_m(bank[:2], bank, 1000)
        assert sieve.fallbacks() == 4


class TestChoice:
    def test_unknown_backend_lists_those_there_are(self):
        bank = unit_rows(5, 3, seed=0)
        valid = "'auto', 'torch', 'native', 'triton', 'faiss'"
        with pytest.raises(ValueError, match=f"backend = 'gpu' is unknown; valid: {valid}"):
            top_m(bank, bank, 1, backend='gpu')

    def test_missing_build_is_named(self, monkeypatch):
        monkeypatch.setattr(native, 'available', lambda: False)
        bank = unit_rows(5, 3, seed=0)
        message = r"backend = 'native' cannot be used: it was not compiled.* Usable here: 'auto', "
        with pytest.raises(ValueError, match=message):
            top_m(bank, bank, 1, backend='native')
        assert top_m(bank, bank, 1)[1].flatten().tolist() == [0, 1, 2, 3, 4]

    def test_faiss_cannot_hide_labels(self):
        bank, label = unit_rows(5, 3, seed=0), torch.zeros(5)
        with pytest.raises(ValueError, match=r"'faiss' cannot be used: it cannot hide rows by"):
            top_m(bank, bank, 1, bank_label=label, query_label=label, backend='faiss')

    @pytest.mark.parametrize('name', ['faiss', 'triton'])
    def test_missing_library_is_named(self, name, monkeypatch):
        for module in (flat, devices):
            monkeypatch.setattr(module, 'find_spec', lambda name: None)
        devices.kernels.cache_clear()
        bank = unit_rows(5, 3, seed=0)
        with pytest.raises(ValueError, match=rf"'{name}' cannot be used: .* is not installed"):
            top_m(bank, bank, 1, backend=name)

    @pytest.mark.parametrize(
        ('name', 'device', 'dtype', 'reason'),
        [
            ('native', 'meta', torch.float32, 'the bank is on meta, it searches on the CPU'),
            ('triton', 'meta', torch.float32, 'the bank is on meta, its kernels run on CUDA'),
            ('triton', 'cpu', torch.float64, 'the bank is torch.float64, its kernels read'),
            ('faiss', 'meta', torch.float32, 'the bank is on meta, it searches on the CPU and'),
        ],
    )
    def test_reason_is_named(self, name, device, dtype, reason):
        bank = torch.ones(5, 3, device=device, dtype=dtype)
        with pytest.raises(ValueError, match=f'cannot be used: {reason}'):
            top_m(bank, bank, 1, backend=name)

    @pytest.mark.parametrize('deterministic', [False, True])
    def test_kernels_are_taken_unless_runs_must_be_alike(self, deterministic, monkeypatch):
        bank = unit_rows(5, 3, seed=0)
        if devices.fused_obstacle(bank):
            pytest.skip('no Triton')
        monkeypatch.setitem(search.PREFERRED, 'cpu', 'triton')  # As on CUDA.
        monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: deterministic)
        name = 'torch' if deterministic else 'triton'
        assert search._automatic(blocks.Hidden(), bank, 1) == name

    def test_compiled_kernels_do_not_run_on_the_cpu(self, monkeypatch):
        pytest.importorskip('triton')
        monkeypatch.setattr(devices.kernels(), 'INTERPRETED', False)
        bank = unit_rows(5, 3, seed=0)
        with pytest.raises(ValueError, match='with TRITON_INTERPRET=1 only'):
            top_m(bank, bank, 1, backend='triton')

    def test_old_triton_is_refused(self, monkeypatch):
        triton = pytest.importorskip('triton')
        monkeypatch.setattr(triton, '__version__', '2.1.0')
        devices.kernels.cache_clear()
        reason = devices.fused_obstacle(torch.ones(1, 1))
        devices.kernels.cache_clear()
        assert reason == 'Triton is 2.1.0, needed is 3.5 or newer'

    def test_gpu_search_of_faiss_has_a_limit(self, monkeypatch):
        faiss = pytest.importorskip('faiss')
        monkeypatch.setattr(faiss, 'StandardGpuResources', object, raising=False)
        assert flat._gpu_obstacle(2048) is None
        assert flat._gpu_obstacle(2049).startswith('on GPUs it finds at most 2048 rows')
        monkeypatch.delattr(faiss, 'StandardGpuResources')
        assert 'built without GPUs' in flat._gpu_obstacle(1)

    @pytest.mark.parametrize('where', [0, 7])
    def test_faiss_leaves_rows_that_are_not_a_number_to_pytorch(self, where):
        pytest.importorskip('faiss')
        bank = unit_rows(40, 4, seed=12)
        bank[where] = torch.nan
        found = top_m(bank[1:3], bank, 40, backend='faiss')
        expected = top_m(bank[1:3], bank, 40, backend='torch')
        torch.testing.assert_close(found[0], expected[0], equal_nan=True)


class TestNeverWaits:
    """On the meta device there is nothing to wait for: an operation that needs a value fails."""

    def step(self, device: str, backend: str) -> None:
        rows, k, m = 400, 4, 12
        bank = unit_rows(rows, 8, seed=13).to(device)
        neighbours = torch.arange(rows, device=device)[:, None].repeat(1, k)
        anchor = torch.arange(3, device=device)
        query = bank[:3].clone().requires_grad_()
        with NeverWaits():
            known, background = top_m(query, bank, m + 1, sort=False, backend=backend)
            background, known = ops.exclude_anchor(background, anchor, known)
            similarity = ops.bank_similarity(query, bank, background, known)
            positive, mask = ops.propagate(neighbours, anchor, 2)
            arguments = query, bank, anchor
            loss = ops.instance_loss(*arguments, background, 0.1, eps=1e-7, similarity=similarity)
            loss = loss + ops.propagation_loss(
                *arguments, positive, mask, background, 0.1, 5, similarity=similarity
            )
            (grad,) = torch.autograd.grad(loss.sum(), query)
        assert grad.shape == query.shape

    @pytest.mark.parametrize('backend', ['auto', 'torch'])
    def test_objective_on_a_device(self, backend):
        self.step('meta', backend)

    @pytest.mark.parametrize('strategy', ['hard', 'semi_hard', 'random', 'semi_easy'])
    def test_draws_on_a_device(self, strategy):
        query, bank = unit_rows(4, 8, seed=0).to('meta'), unit_rows(300, 8, seed=1).to('meta')
        label = torch.zeros(300, dtype=torch.int64, device='meta')
        with NeverWaits():
            index, _ = ops.draw_negatives(strategy, query, bank, label, label[:4], 20)
            ops.sample_positive(label, label[:4], label[:4])
        assert index.shape == (4, 20)

    def test_fused_search(self, small_samples, monkeypatch):
        if devices.fused_obstacle(torch.ones(1, 1)):
            pytest.skip('no Triton')
        calls, fused = [], devices.kernels().search
        monkeypatch.setattr(
            devices.kernels(), 'search', lambda *args: calls.append(1) or fused(*args)
        )
        self.step('cpu', 'triton')
        assert calls == [1]

    @pytest.mark.parametrize(
        'wait',
        [
            lambda values: values.sum().item(),
            lambda values: values[values > 0],
            lambda values: values.nonzero(),
            lambda values: bool((values > 0).any()),
            lambda values: values.to('meta'),
        ],
    )
    def test_waiting_is_noticed(self, wait):
        with pytest.raises(AssertionError, match='wait'), NeverWaits():
            wait(torch.ones(3))
