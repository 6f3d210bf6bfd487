import pytest
import torch

from mmselfsup_invp.ops import blocks, native, search, sieve, top_m

from . import reference
from .tools import Allocations, unit_rows


@pytest.fixture(params=['compiled', 'pytorch'], autouse=True)
def compiled(request, monkeypatch) -> bool:
    """Both ways to search on the CPU; the compiled one is checked further in test_native.py."""
    if request.param == 'pytorch':
        monkeypatch.setattr(native, 'available', lambda: False)
    elif not native.available():
        pytest.skip('the search in C is not compiled here')
    return request.param == 'compiled'


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
    flipped = tuple(part.flip(1) for part in expected)
    monkeypatch.setattr(search, 'search_blocks', lambda *args: flipped)
    similarity, index = top_m(query, bank, 9, sort=False)
    assert torch.equal(similarity[:, -1], expected[0][:, -1])
    assert torch.equal(similarity.sort(dim=1, descending=True).values, expected[0])
    torch.testing.assert_close(similarity, (query @ bank.T).gather(1, index))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('exclude', [False, True])
@pytest.mark.parametrize('max_elements', [2**15, None])
def test_sieve_is_exact(max_elements, exclude, dtype):
    query, bank = unit_rows(20, 6, seed=24), unit_rows(6000, 6, seed=25).to(dtype)
    hidden = torch.arange(20) * 250
    query[:] = bank[hidden].float()
    hidden = hidden if exclude else None
    arguments = query, blocks.Hidden(hidden), bank, 700, max_elements or 2**21
    assert sieve.sieve(*arguments) is not None, 'large enough for the sieve'
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
    similarity, index = top_m(
        query, bank, m, bank_label=label, query_label=own, max_elements=max_elements
    )
    every = (query @ bank.T).masked_fill(label == own[:, None], -torch.inf)
    torch.testing.assert_close(similarity, every.topk(m)[0])
    torch.testing.assert_close(similarity, every.gather(1, index))
    assert (label[index] != own[:, None]).all()


def test_too_few_rows_of_other_labels_end_in_minus_infinity():
    bank, label = unit_rows(10, 3, seed=36), torch.tensor([0] * 6 + [1] * 4)
    similarity, _ = top_m(bank[:2], bank, 6, bank_label=label, query_label=torch.tensor([0, 1]))
    assert (similarity.isneginf().sum(dim=1) == torch.tensor([2, 0])).all()
    assert similarity[0, :4].isfinite().all()


# Scores of a row of 8192 whose 512 highest are looked for, as the sample sees them.
SAMPLED = sieve._sample(torch.empty(8192), sieve.SAMPLE_STRIDE)
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
def test_sieve_gives_up_only_where_the_sample_misleads(kind, max_elements):
    found = sieve.sieve(torch.ones(1, 1), blocks.Hidden(), SCORES[kind][:, None], 512, max_elements)
    assert (found is None) == (kind in MISLEADING)


@pytest.mark.parametrize(
    ('queries', 'rows', 'm', 'limit'),
    [(0, 9000, 600, 2**21), (1, 9000, 9, 2**21), (1, 9000, 1200, 2**21), (9, 9000, 600, 2**11)],
)
def test_sieve_is_not_tried_where_it_is_not_worth_it(queries, rows, m, limit):
    query, bank = unit_rows(queries, 3, seed=26), unit_rows(rows, 3, seed=27)
    assert sieve.sieve(query, blocks.Hidden(), bank, m, limit) is None


def test_blocks_of_few_columns_are_worth_it_in_c_alone(compiled):
    query, bank = unit_rows(9, 3, seed=26), unit_rows(9000, 3, seed=27)
    found = sieve.sieve(query, blocks.Hidden(), bank, 1000, 2**13)
    assert (found is not None) == compiled


def test_memory_of_the_sieve_is_bounded(compiled):
    query, bank = unit_rows(64, 4, seed=28), unit_rows(40_000, 4, seed=29)
    with Allocations() as allocations:
        top_m(query, bank, 600)
    block = sieve.SIEVE_ELEMENTS
    assert allocations.largest < block / 4 if compiled else allocations.largest == block
    assert block < 64 * 40_000 / 4


@pytest.mark.parametrize('sampled', [False, True])
def test_a_row_that_is_not_a_number_is_dealt_with_as_by_pytorch(sampled, compiled, monkeypatch):
    """The sample holds it, so that topk searches and ranks it first, or no threshold is passed."""
    query, bank = unit_rows(5, 4, seed=36), unit_rows(9000, 4, seed=37)
    rows = sieve._sample(bank, sieve.SAMPLE_STRIDE).tolist()
    where = rows[7] if sampled else next(row for row in range(9000) if row not in rows)
    bank[where] = torch.nan
    similarity, index = top_m(query, bank, 1000)
    monkeypatch.setattr(native, 'available', lambda: False)
    expected = top_m(query, bank, 1000)
    torch.testing.assert_close(similarity, expected[0], equal_nan=True)
    assert ((index == where).any(dim=1) == sampled).all()


@pytest.mark.parametrize('stride', [3, 24, 97])
def test_a_sample_has_a_row_of_each_stretch(stride):
    rows = sieve._sample(torch.empty(5000), stride)
    assert torch.equal(rows // stride, torch.arange(5000 // stride))
    assert len((rows % stride).unique()) > stride / 3


@pytest.mark.parametrize('classes', [2, 3, 8, 10, 24, 100, 233, 1000])
def test_classes_that_take_turns_do_not_mislead(classes):
    """As in a data set that is ordered so; the sample must not show some of them alone."""
    generator = torch.Generator().manual_seed(38)
    centre = unit_rows(classes, 16, seed=39)[torch.arange(40_000) % classes]
    bank = centre + 0.2 * torch.randn(40_000, 16, generator=generator)
    query = bank[torch.randperm(40_000, generator=generator)[:16]]
    for plan in (sieve._plan(16, 40_000, 600, 2**21), sieve._device_plan(16, 40_000, 600, 2**24)):
        threshold = sieve._threshold(query, blocks.Hidden(), bank, plan)
        count = (query @ bank.T >= threshold[:, None]).sum(dim=1)
        assert ((count < 600) | (count > plan.width)).sum() <= 1


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason='needs oneDNN')
def test_products_of_onednn_are_those_of_blas():
    query, bank = unit_rows(9, 100, seed=30), unit_rows(70, 100, seed=31)
    for rows in (bank, bank[::3], bank.half(), bank[:1]):
        torch.testing.assert_close(
            sieve._cpu_similarities(query, rows), blocks.similarities(query, rows)
        )


def test_sieve_without_onednn(monkeypatch):
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
    assert allocations.largest <= max(limit, 70 * m, blocks.ROW_GROUP * 2 * m)


def test_a_whole_pass_takes_one_block_by_default():
    query, bank = unit_rows(32, 4, seed=12), unit_rows(1000, 4, seed=13)
    with Allocations() as allocations:
        top_m(query, bank, 10)
    assert allocations.largest == 32 * 1000


def test_a_half_precision_bank_is_widened_in_parts():
    query, bank = unit_rows(3, 4, seed=21), unit_rows(blocks.CAST_ROWS + 9, 4, seed=22).half()
    with Allocations() as allocations:
        similarity, index = top_m(query, bank, 50)
    expected = query @ bank.float().T
    torch.testing.assert_close(similarity, expected.topk(50)[0])
    torch.testing.assert_close(similarity, expected.gather(1, index))
    assert allocations.largest == blocks.CAST_ROWS * 4 < bank.numel()


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
        (dict(bank_label=torch.zeros(5)), 'bank_label and query_label belong together'),
        (
            dict(bank_label=torch.zeros(4), query_label=torch.zeros(3)),
            r'bank_label has the shape \(4,\) where \(5,\) is needed: one entry for each row',
        ),
        (
            dict(bank_label=torch.zeros(5), query_label=torch.zeros(3, 1)),
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
