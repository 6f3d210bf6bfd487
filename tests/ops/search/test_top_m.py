import pytest
import torch

from mmselfsup_invp.ops import search, top_m
from mmselfsup_invp.ops.search import faiss, native, products, self_test, threshold, torch_blocks
from mmselfsup_invp.ops.search.request import Neighbours, Request

from .. import reference
from ..tools import Allocations, unit_rows


@pytest.fixture(params=['compiled', 'pytorch'], autouse=True)
def compiled(request, monkeypatch) -> bool:
    """Both ways to search on the CPU; the compiled one is checked further in test_native.py."""
    if request.param == 'pytorch':
        monkeypatch.setattr(native, 'available', lambda: False)
    elif not native.available():
        pytest.skip('the search in C is not compiled here')
    return request.param == 'compiled'


def search_with_threshold(query, bank, m, limit=2**21, exclude=None):
    """The search in one pass, in C or in PyTorch; None where it is declined or misled."""
    backend = native if native.available() else torch_blocks
    return backend.search(Request(query, bank, m, exclude, None, limit))


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
def test_unsorted_is_the_same_set_with_the_least_similar_last(m, max_elements):
    query, bank = unit_rows(4, 3, seed=7), unit_rows(4500, 3, seed=8)
    similarity, index = top_m(query, bank, m, sort=False, max_elements=max_elements)
    expected = top_m(query, bank, m, max_elements=max_elements)
    assert torch.equal(similarity.sort(dim=1, descending=True).values, expected[0])
    assert torch.equal(similarity[:, -1], expected[0][:, -1])
    assert torch.equal(index.sort(dim=1).values, expected[1].sort(dim=1).values)
    torch.testing.assert_close(similarity, (query @ bank.T).gather(1, index))


def test_the_least_similar_is_last_however_the_rows_are_found(monkeypatch):
    """As on devices whose topk gives the columns in another order than the CPU's."""
    query, bank = unit_rows(4, 3, seed=7), unit_rows(40, 3, seed=8)
    expected = top_m(query, bank, 9)
    flipped = Neighbours(*(part.flip(1) for part in expected))
    monkeypatch.setattr(torch_blocks, 'search_blocks', lambda request: flipped)
    similarity, index = top_m(query, bank, 9, sort=False)
    assert torch.equal(similarity[:, -1], expected[0][:, -1])
    assert torch.equal(similarity.sort(dim=1, descending=True).values, expected[0])
    torch.testing.assert_close(similarity, (query @ bank.T).gather(1, index))


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


@pytest.mark.parametrize('m', [0, 6])
def test_m_out_of_range_names_the_range(m):
    bank = unit_rows(5, 4, seed=19)
    with pytest.raises(ValueError, match=rf'm = {m} is outside the valid range 1 to 5'):
        top_m(bank, bank, m)


@pytest.mark.parametrize(
    ('hidden', 'message'),
    [
        (dict(exclude=torch.tensor([1])), r'exclude has the shape \(1,\) where \(3,\) is needed'),
        (dict(labels=torch.zeros(5)), r'labels must be the pair \(query_label, bank_label\)'),
        (
            dict(labels=(torch.zeros(3), torch.zeros(4))),
            r'bank_label has the shape \(4,\) where \(5,\) is needed: one entry for each row',
        ),
        (
            dict(labels=(torch.zeros(3, 1), torch.zeros(5))),
            r'query_label has the shape \(3, 1\) where \(3,\) is needed',
        ),
    ],
)
def test_what_is_hidden_has_to_fit(hidden, message):
    bank = unit_rows(5, 4, seed=20)
    with pytest.raises(ValueError, match=message):
        top_m(bank[:3], bank, 2, **hidden)


def test_an_excluded_row_narrows_the_range():
    bank = unit_rows(5, 4, seed=20)
    with pytest.raises(ValueError, match=r'm = 5 is outside the valid range 1 to 4'):
        top_m(bank, bank, 5, exclude=torch.arange(5))


@pytest.mark.parametrize(
    ('query', 'bank', 'message'),
    [
        (torch.ones(2, 3), torch.ones(5, 4), r'query has 3 dimensions where 4 are needed'),
        (torch.ones(2, 4), torch.ones(5, 4, dtype=torch.int64), r'bank must be a floating point'),
        (torch.ones(4), torch.ones(5, 4), r'query must be .* found torch.float32 of shape \(4,\)'),
    ],
)
def test_features_that_do_not_fit_are_refused(query, bank, message):
    with pytest.raises(ValueError, match=message):
        top_m(query, bank, 1)


@pytest.mark.parametrize('num', [[0, 5, 9], [9, 9, 9], [1, 1, 2]])
def test_the_nearest_first_are_those_of_a_sort(num, compiled):
    similarity = torch.randn(3, 9, generator=torch.Generator().manual_seed(11))
    index = torch.randperm(27, generator=torch.Generator().manual_seed(12)).view(3, 9)
    before = similarity.clone()
    values, rows = search.nearest_first(similarity, index, torch.tensor(num))
    assert torch.equal(similarity, before)
    row_of = dict(zip(index.flatten().tolist(), before.flatten().tolist(), strict=True))
    for row, first in enumerate(num):
        own = values[row, :first]
        assert torch.equal(own.sort(descending=True).values, before[row].topk(first).values)
        assert [row_of[place] for place in rows[row, :first].tolist()] == own.tolist()


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
            top_m(bank, bank, 1, labels=(label, label), backend='faiss')

    @pytest.mark.parametrize('name', ['faiss', 'triton'])
    def test_missing_library_is_named(self, name, monkeypatch):
        for module in (faiss, self_test):
            monkeypatch.setattr(module, 'find_spec', lambda name: None)
        self_test.kernels.cache_clear()
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
        if self_test.unsupported_reason(bank):
            pytest.skip('no Triton')
        monkeypatch.setitem(search.PREFERRED, 'cpu', 'triton')  # As on CUDA.
        monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: deterministic)
        name = 'torch' if deterministic else 'triton'
        assert search._automatic(Request(bank, bank, 1)) == name

    def test_compiled_kernels_do_not_run_on_the_cpu(self, monkeypatch):
        pytest.importorskip('triton')
        monkeypatch.setattr(self_test.kernels(), 'INTERPRETED', False)
        bank = unit_rows(5, 3, seed=0)
        with pytest.raises(ValueError, match='with TRITON_INTERPRET=1 only'):
            top_m(bank, bank, 1, backend='triton')

    def test_old_triton_is_refused(self, monkeypatch):
        triton = pytest.importorskip('triton')
        monkeypatch.setattr(triton, '__version__', '2.1.0')
        self_test.kernels.cache_clear()
        reason = self_test.unsupported_reason(torch.ones(1, 1))
        self_test.kernels.cache_clear()
        assert reason == 'Triton is 2.1.0, needed is 3.5 or newer'

    def test_gpu_search_of_faiss_has_a_limit(self, monkeypatch):
        library = pytest.importorskip('faiss')
        monkeypatch.setattr(library, 'StandardGpuResources', object, raising=False)
        assert faiss._gpu_unsupported_reason(2048) is None
        assert faiss._gpu_unsupported_reason(2049).startswith('on GPUs it finds at most 2048 rows')
        monkeypatch.delattr(library, 'StandardGpuResources')
        assert 'built without GPUs' in faiss._gpu_unsupported_reason(1)

    @pytest.mark.parametrize('where', [0, 7])
    def test_faiss_leaves_rows_that_are_not_a_number_to_pytorch(self, where):
        pytest.importorskip('faiss')
        bank = unit_rows(40, 4, seed=12)
        bank[where] = torch.nan
        found = top_m(bank[1:3], bank, 40, backend='faiss')
        expected = top_m(bank[1:3], bank, 40, backend='torch')
        torch.testing.assert_close(found[0], expected[0], equal_nan=True)
