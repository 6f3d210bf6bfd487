"""The builds of the search in C, each against a slow reference."""

import ctypes
import shutil
from pathlib import Path

import pytest
import torch

from mmselfsup_invp.ops import top_m
from mmselfsup_invp.ops.search import native
from mmselfsup_invp.ops.search.request import Neighbours, Request
from mmselfsup_invp.ops.search.threshold import Plan

from ..tools import unit_rows


def filter_rows(query, bank, threshold, exclude=None, labels=None, width=None, blocks=1):
    """One pass over the bank, in blocks that are read where they lie."""
    request = Request(query, bank, 1, exclude, labels)
    arguments, candidates = native.filter_arguments(request, threshold, width or len(bank))
    first = 0
    for block in bank.chunk(blocks):
        place = block.data_ptr(), len(block), block.stride(0), first
        native.library().filter_rows(ctypes.byref(arguments), *place)
        first += len(block)
    return candidates


def entries(passed, row):
    """The rows of the bank that a query has kept, with their similarities."""
    filled = slice(0, passed.count[row])
    found = zip(passed.index[row, filled].tolist(), passed.value[row, filled], strict=True)
    return dict(found)


def test_the_build_for_the_processor_is_loaded(build):
    assert build in native.library()._name


@pytest.mark.parametrize('dim', [1, 7, 128])
@pytest.mark.parametrize(('queries', 'rows'), [(1, 1), (3, 700), (33, 90), (150, 41)])
def test_what_reaches_the_threshold_is_kept(build, threads, queries, rows, dim):
    query, bank = unit_rows(queries, dim, seed=0), unit_rows(rows, dim, seed=1)
    every = query.double() @ bank.double().T
    threshold = every.median(dim=1).values.float() + 1e-6
    hidden = torch.arange(queries) % rows
    passed = filter_rows(query, bank, threshold, hidden)
    for row in range(queries):
        kept = entries(passed, row)
        expected = (every[row] >= threshold[row]).index_fill_(0, hidden[row], False)
        assert list(kept) == expected.nonzero().flatten().tolist()
        torch.testing.assert_close(
            torch.tensor(list(kept.values())), every[row, expected].float(), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize('dtype', [torch.int64, torch.int32])
def test_rows_of_the_own_label_are_left_out(build, threads, dtype):
    query, bank = unit_rows(70, 5, seed=8), unit_rows(203, 5, seed=9)
    label, own = torch.arange(203, dtype=dtype) % 4, torch.arange(70, dtype=dtype) % 5
    every = query.double() @ bank.double().T
    passed = filter_rows(query, bank, torch.full((70,), 0.1), labels=(own, label), blocks=3)
    for row in range(70):
        expected = (every[row] >= 0.1) & (label != own[row])
        assert list(entries(passed, row)) == expected.nonzero().flatten().tolist()


@pytest.mark.parametrize('blocks', [2, 5])
def test_blocks_give_what_the_whole_bank_gives(build, threads, blocks):
    query, bank = unit_rows(70, 5, seed=2), unit_rows(203, 5, seed=3)
    threshold, hidden = torch.full((70,), 0.2), torch.arange(70) * 2
    whole = filter_rows(query, bank, threshold, hidden)
    parts = filter_rows(query, bank, threshold, hidden, blocks=blocks)
    assert torch.equal(whole.count, parts.count)
    assert all(entries(whole, row) == entries(parts, row) for row in range(70))


def test_strided_banks_are_read_where_they_lie(build):
    query, bank = unit_rows(5, 6, seed=4), unit_rows(90, 6, seed=5)
    threshold = torch.zeros(5)
    for view in (bank[::7], bank[3:4].expand(8, 6)):
        ours, plain = (filter_rows(query, rows, threshold) for rows in (view, view.clone()))
        assert torch.equal(ours.count, plain.count)
        assert all(entries(ours, row) == entries(plain, row) for row in range(5))


def test_more_than_there_is_room_for_is_counted_and_not_written(build):
    bank = torch.ones(50, 2)
    passed = filter_rows(torch.ones(3, 2), bank, torch.tensor([2.0, 3.0, 2.0]), width=4)
    assert passed.count.tolist() == [50, 0, 50]
    assert passed.index[[0, 2]].tolist() == [[0, 1, 2, 3]] * 2


def test_only_numbers_reach_a_threshold(build):
    bank = torch.tensor([[1.0], [torch.nan], [-torch.inf], [torch.inf]])
    query = torch.tensor([[1.0], [torch.nan], [1.0]])
    passed = filter_rows(query, bank, torch.tensor([-torch.inf, -torch.inf, torch.nan]))
    assert list(entries(passed, 0)) == [0, 2, 3]
    assert passed.count.tolist() == [3, 0, 0]


# Values of which the highest are looked for, in a row with room for more.
ROWS = {
    'random': torch.randn(500, generator=torch.Generator().manual_seed(6)),
    'ascending': torch.linspace(-1, 1, 500),
    'descending': torch.linspace(1, -1, 500),
    'all equal': torch.ones(500),
    'few values': torch.linspace(-2, 3, 500).floor(),
    'both zeros': torch.tensor([0.0, -0.0] * 250),
    'infinities': torch.tensor([torch.inf, 0.5, -torch.inf, -1, torch.inf] * 100),
    'tiny and huge': torch.tensor([1e-45, -1e-45, 3e38, -3e38, 0.0] * 100),
}


@pytest.mark.parametrize('m', [0, 1, 2, 200, 499, 500])
def test_the_highest_come_first(build, threads, m):
    value = torch.full((len(ROWS), 520), torch.nan)
    value[:, :500] = torch.stack(list(ROWS.values()))
    original = value.clone()
    index = torch.arange(520, dtype=torch.int32).repeat(len(ROWS), 1)
    passed = native.Candidates(value, index, torch.full((len(ROWS),), 500))
    highest, place = native.select_highest(passed, torch.full((len(ROWS),), m), m)
    expected = original[:, :500].sort(dim=1, descending=True).values[:, :m]
    assert torch.equal(highest.sort(dim=1, descending=True).values, expected)
    assert torch.equal(original.gather(1, place), highest)
    assert (place.diff(dim=1) > 0).all(), 'none twice, and the order is kept'


def test_each_row_has_a_number_of_its_own(build, threads):
    value = torch.stack([ROWS['random'], ROWS['descending'], ROWS['random']])
    index = torch.arange(500, dtype=torch.int32).repeat(3, 1)
    passed = native.Candidates(value.clone(), index, torch.tensor([500, 400, 10]))
    num = torch.tensor([7, 300, 10])
    found = native.select_highest(passed, num, 300)
    for row in range(3):
        filled, own = value[row, : passed.count[row]], found.similarity[row, : num[row]]
        assert set(own.tolist()) == set(filled.topk(int(num[row])).values.tolist())


@pytest.mark.parametrize('equal', [1, 7])
def test_the_threshold_of_a_sample_is_a_value_that_enough_reach(build, threads, equal, monkeypatch):
    """At least the rank, and no more than ties explain; a sample that holds NaN has none."""
    scores = torch.stack([ROWS['random'], ROWS['descending'], ROWS['infinities'], ROWS['random']])
    scores = scores.repeat_interleave(equal, dim=1)
    scores[3, 40] = torch.nan
    monkeypatch.setattr(native, 'sample_scores', lambda request, plan: scores)
    found = native._sample_threshold(None, Plan(stride=1, rank=21, width=500))
    expected = scores[:3].sort(dim=1, descending=True).values[:, 20]
    assert found[3].isnan()
    for row in range(3):
        reached, passed = scores[row] >= expected[row], scores[row] >= found[row]
        assert torch.equal(reached, passed)


def test_a_row_with_nan_stays_within_its_bounds(build):
    value = torch.tensor([[torch.nan, torch.nan, 1.0, 7.0], [2.0, 3.0, 4.0, 5.0]])
    passed = native.Candidates(value, torch.zeros(2, 4, dtype=torch.int32), torch.tensor([3, 4]))
    native.select_highest(passed, torch.tensor([3, 1]), 3)
    assert value[0, 3] == 7 and value[1, 0] == 5


def test_a_build_without_threads_serves_one(build, monkeypatch):
    constants = dict(threaded=0)
    read = native._constant
    monkeypatch.setattr(native, '_constant', lambda own, name: constants.get(name, read(own, name)))
    torch.set_num_threads(2)
    assert not native.available()
    torch.set_num_threads(1)
    assert native.available()


@pytest.mark.parametrize('columns', [1, 500])
def test_rows_are_sorted_as_by_pytorch(build, threads, columns):
    """Not a number first, as from an operation (with the sign bit set) too; the order of equals."""
    value = torch.stack(list(ROWS.values()))
    value[0, ::9], value[1, ::9] = torch.nan, -torch.tensor(torch.nan)
    value = value[:, :columns].contiguous()
    index = torch.arange(value.numel()).view(value.shape) + 2**40
    before = value.clone()
    found = native.sort_descending(Neighbours(value, index))
    expected, order = before.sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(found.similarity, expected, rtol=0, atol=0, equal_nan=True)
    distinct = torch.arange(len(value)) != list(ROWS).index('both zeros')
    assert torch.equal(found.index[distinct], index.gather(1, order)[distinct])
    torch.testing.assert_close(value, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_searches_find_what_pytorch_finds(build, threads, dtype, monkeypatch):
    query, bank = unit_rows(100, 24, seed=7), unit_rows(9000, 24, seed=8).to(dtype)
    exclude = torch.arange(100) * 80
    ours = top_m(query, bank, 600, exclude=exclude)
    monkeypatch.setattr(native, 'available', lambda: False)
    plain = top_m(query, bank, 600, exclude=exclude)
    torch.testing.assert_close(ours[0], plain[0])
    assert (ours[1] == plain[1]).float().mean() > 0.99, 'the same but for near ties'


def test_without_a_build_pytorch_searches(fresh, monkeypatch, tmp_path):
    query, bank = unit_rows(9, 6, seed=9), unit_rows(6000, 6, seed=10)
    expected = top_m(query, bank, 700)
    monkeypatch.setattr(native, 'SOURCE', tmp_path / '_native.c')
    native.library.cache_clear()
    assert not native.available()
    torch.testing.assert_close(top_m(query, bank, 700)[0], expected[0])


def test_a_build_of_another_source_is_left_alone(build, monkeypatch, tmp_path):
    for path in native.SOURCE.parent.glob('_native*'):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(native, 'SOURCE', tmp_path / '_native.c')
    native.library.cache_clear()
    assert native.available()
    native.SOURCE.write_bytes(native.SOURCE.read_bytes() + b'\n')
    native.library.cache_clear()
    assert not native.available()
    native.SOURCE.unlink()
    native.library.cache_clear()
    assert native.available(), 'a wheel holds no source'


def test_a_library_that_cannot_be_loaded_is_left_alone(build, monkeypatch, tmp_path):
    (tmp_path / Path(native.library()._name).name).write_text('no library')
    monkeypatch.setattr(native, 'SOURCE', tmp_path / '_native.c')
    native.library.cache_clear()
    with pytest.raises(OSError):
        ctypes.CDLL(str(next(tmp_path.iterdir())))
    assert not native.available()
