"""The Triton kernels by their interpreter (on a GPU, if there is one), each against float64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmselfsup_invp.ops import similarity
from mmselfsup_invp.ops.search import self_test
from mmselfsup_invp.ops.search.request import Neighbours, Request
from mmselfsup_invp.ops.search.threshold import fallbacks, reset_fallbacks

from ..tools import DEVICE, unit_rows

if reason := self_test.unsupported_reason(torch.ones(1, 1, device=DEVICE)):
    pytest.skip(reason, allow_module_level=True)
from mmselfsup_invp.ops.search import triton, triton_gather, triton_select

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Queries, rows and dimensions: within one tile, at the edges of tiles, beyond all of them.
SHAPES = [(1, 1, 1), (5, 64, 16), (17, 65, 33), (130, 70, 70)]


def problem(queries, rows, dim, dtype=torch.float32, seed=0):
    """Queries, a bank, and their similarities in float64."""
    bank = unit_rows(rows, dim, seed).to(DEVICE, dtype)
    query = unit_rows(queries, dim, seed + 1).to(DEVICE)
    return query, bank, query.double() @ bank.double().T


def filter_rows(request, threshold, width):
    """One pass over the bank: the similarities and rows that passed, and how many."""
    grid, arguments = triton.filter_arguments(request, threshold, width)
    triton._filter_kernel[grid](**arguments)
    return arguments['value'], arguments['index'], arguments['count']


def select(query, bank, m, *, count=0, width=10**6, threshold=0.0, found=7.0, **hidden):
    """Select exactly, of each query whose ``count`` is not from m to ``width``."""
    values = query.new_full((len(query), m), found, dtype=torch.float32)
    found = Neighbours(values, torch.full_like(values, -7, dtype=torch.int64))
    thresholds = torch.zeros(len(query), device=DEVICE) + threshold
    counts = torch.zeros(len(query), dtype=torch.int32, device=DEVICE) + count
    reset_fallbacks()
    request = Request(query, bank, m, **hidden)
    triton_select.search_misled(request, thresholds, counts, width, found)
    return *found, fallbacks()


class TestFilter:
    @pytest.mark.parametrize('dtype', DTYPES)
    @pytest.mark.parametrize(('queries', 'rows', 'dim'), SHAPES)
    def test_finds_what_reaches_the_threshold(self, queries, rows, dim, dtype):
        query, bank, every = problem(queries, rows, dim, dtype)
        # Clear of all similarities, which a rounding might lift above it.
        ordered = every.sort(dim=1).values
        low, high = ordered[:, rows // 2 - 1], ordered[:, rows // 2]
        threshold = ((low + high) / 2 if rows > 1 else high - 1).float()
        tolerance = 2**-16 if dtype == torch.bfloat16 else 1e-6
        value, index, count = filter_rows(Request(query, bank, 1), threshold, rows)
        passes = every >= threshold[:, None]
        assert torch.equal(count.long(), passes.sum(dim=1))
        for own in range(queries):
            found = index[own, : count[own]].long()
            assert torch.equal(found.sort().values, passes[own].nonzero().squeeze(1))
            torch.testing.assert_close(
                value[own, : count[own]], every[own, found].float(), rtol=1e-5, atol=tolerance
            )
            assert value[own, count[own] :].isneginf().all()

    @pytest.mark.parametrize('labels', [False, True])
    def test_hides_rows(self, labels):
        query, bank, _ = problem(20, 150, 8)
        own = torch.arange(20, device=DEVICE)
        label = torch.arange(150, device=DEVICE) % 6
        request = Request(query, bank, 1, own * 7, (own % 7, label) if labels else None)
        lowest = torch.full((20,), -9.0, device=DEVICE)
        _, index, count = filter_rows(request, lowest, 150)
        for number, row in enumerate(index.tolist()):
            expected = set(range(150)) - {7 * number}
            if labels:
                expected -= {other for other in expected if other % 6 == number % 7}
            assert set(row[: count[number]]) == expected and count[number] == len(expected)

    def test_more_than_there_is_room_for_is_counted_but_not_written(self):
        query, bank, every = problem(3, 130, 8)
        threshold = torch.tensor([-9.0, torch.nan, 9.0], device=DEVICE)
        value, index, count = filter_rows(Request(query, bank, 1), threshold, 40)
        assert count.tolist() == [130, 130, 0]
        assert all(len(set(row)) == 40 for row in index[:2].tolist())
        torch.testing.assert_close(value[:2], every[:2].gather(1, index[:2].long()).float())
        assert value[2].isneginf().all()

    @pytest.mark.parametrize('dtype', DTYPES)
    def test_what_is_no_number_passes(self, dtype):
        """Not for the queries that a block has room for beyond the last."""
        query, bank, _ = problem(17, 130, 20, dtype)
        query[3], bank[70] = torch.nan, torch.nan
        threshold = torch.full((17,), 9.0, device=DEVICE)
        value, index, count = filter_rows(Request(query, bank, 1), threshold, 130)
        assert count.tolist() == [130 if own == 3 else 1 for own in range(17)]
        assert value[:, 0].isnan().all() and value[3].isnan().all()
        assert (index[torch.arange(17, device=DEVICE) != 3, 0] == 70).all()

    def test_queries_of_the_type_of_the_bank_need_one_part(self):
        _, bank, _ = problem(1, 90, 24, torch.float16)
        threshold = torch.full((20,), 0.05, device=DEVICE)
        found = []
        for query in (bank[:20], bank[:20].float()):
            parts, _ = triton.split_queries(query, bank.dtype)
            assert parts.shape == (20, 24 if query.dtype == bank.dtype else 48)
            value, index, count = filter_rows(Request(query, bank, 1), threshold, 90)
            dense = torch.zeros(20, 90, device=DEVICE)
            found.append(dense.scatter_(1, index.long(), value.clamp(min=0)))
            assert count.min() > 0
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)

    def test_rows_of_a_tile_are_strided_over_the_bank(self):
        """Adjacent rows are often similar: in one tile they would take a round each."""
        bank = torch.zeros(640, 4, device=DEVICE)
        bank[300:400] = 1
        request = Request(bank[300:301], bank, 1)
        _, index, count = filter_rows(request, torch.ones(1, device=DEVICE), 640)
        assert sorted(index[0, : count[0]].tolist()) == list(range(300, 400))
        tiles = triton.triton.cdiv(640, triton.ROW_BLOCK)
        # The entries of a tile are written together, so they follow one another in the buffer.
        assert (index[0, :100] % tiles).view(tiles, 10).diff(dim=1).eq(0).all()


class TestSelect:
    def test_programs_share_the_rows_of_a_query(self, monkeypatch):
        """Several chunks, more of them than programs, and ties across the chunks."""
        monkeypatch.setattr(triton_select, 'CHUNK', 256)
        monkeypatch.setattr(triton_select, 'PROGRAMS', 2)
        query, bank, _ = problem(2, 900, 8)
        bank[::3] = bank[0]
        every = query.double() @ bank.double().T
        for m in (100, 500):
            found, index, again = select(query, bank, m, count=torch.tensor([0, m], device=DEVICE))
            assert again == 1 and (index[1] == -7).all()
            expected = every.topk(m).values.float()
            torch.testing.assert_close(found[:1].sort(dim=1, descending=True).values, expected[:1])
            torch.testing.assert_close(found[:1], every.gather(1, index.clamp(min=0))[:1].float())
            assert len(set(index[0].tolist())) == m

    @pytest.mark.parametrize('dtype', DTYPES)
    @pytest.mark.parametrize('m', [1, 30, 130])
    def test_finds_the_highest(self, m, dtype):
        query, bank, every = problem(2, 130, 70, dtype)
        found, index, fallbacks = select(query, bank, m)
        assert fallbacks == 2
        expected = every.topk(m).values.float()
        torch.testing.assert_close(found.sort(dim=1, descending=True).values, expected)
        torch.testing.assert_close(found, every.gather(1, index).float())
        assert all(len(set(row)) == m for row in index.tolist())

    def test_leaves_good_results_alone(self):
        query, bank, _ = problem(4, 70, 8)
        count = torch.tensor([9, 10, 20, 21], dtype=torch.int32, device=DEVICE)
        found, index, fallbacks = select(query, bank, 10, count=count, width=20)
        assert fallbacks == 2
        assert (found[1:3] == 7).all() and (index[1:3] == -7).all()
        assert (found[[0, 3]] < 2).all() and (index[[0, 3]] >= 0).all()

    def test_too_few_are_right_where_no_row_was_kept_back(self):
        query, bank, _ = problem(2, 70, 8)
        threshold = torch.tensor([-torch.inf, 0], device=DEVICE)
        found, _, fallbacks = select(query, bank, 10, count=9, threshold=threshold)
        assert fallbacks == 1 and (found[0] == 7).all() and (found[1] < 2).all()

    def test_too_many_are_right_where_all_that_was_found_is_no_number(self):
        query, bank, _ = problem(2, 400, 8)
        _, index, fallbacks = select(query, bank, 300, count=400, width=350, found=torch.nan)
        assert fallbacks == 0 and (index == -7).all()

    @pytest.mark.parametrize('m', [1, 3, 5, 8])
    def test_ranks_as_topk_does(self, m):
        values = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, -torch.nan, 1e-40, -1e-40, -3, 5]
        bank = torch.tensor(values, device=DEVICE)[:, None]
        found, index, _ = select(torch.ones(1, 1, device=DEVICE), bank, m)
        ranks = bank.T.topk(m).values
        torch.testing.assert_close(
            found.sort(dim=1, descending=True).values, ranks, equal_nan=True, rtol=0, atol=1e-39
        )
        torch.testing.assert_close(found, bank.T.gather(1, index), equal_nan=True, rtol=0, atol=0)
        assert len(set(index[0].tolist())) == m

    def test_equal_rows_are_each_found_once(self):
        bank = torch.ones(150, 2, device=DEVICE)
        bank[::10] = 2
        found, index, _ = select(torch.ones(1, 2, device=DEVICE), bank, 80)
        assert sorted(found[0].tolist()) == [2.0] * 65 + [4.0] * 15
        assert len(set(index[0].tolist())) == 80

    def test_hidden_rows_come_last(self):
        query, bank, every = problem(2, 70, 8)
        label = (torch.arange(70, device=DEVICE) < 60).long()
        hidden = dict(exclude=torch.tensor([65, 3], device=DEVICE), labels=(label[[0, 69]], label))
        every[0, :60], every[0, 65], every[1, 60:], every[1, 3] = (-torch.inf,) * 4
        found, index, _ = select(query, bank, 12, **hidden)
        assert found.isneginf().sum(dim=1).tolist() == [3, 0]
        expected = every.topk(12).values.float()
        torch.testing.assert_close(found.sort(dim=1, descending=True).values, expected)
        torch.testing.assert_close(found, every.gather(1, index).float())
        assert all(len(set(row)) == 12 for row in index.tolist())


@pytest.mark.parametrize('scale', [1e-30, 1e-8, 1, 1e8, 1e30])
@pytest.mark.parametrize(('dtype', 'error'), [(torch.float16, 2**-22), (torch.bfloat16, 2**-16)])
def test_split_of_queries_of_any_length(dtype, error, scale):
    query = unit_rows(5, 400, seed=3) * scale
    query[4] = 0
    parts, factor = triton.split_queries(query, dtype)
    assert parts.dtype == dtype
    again = parts.double().view(5, 2, 400).sum(dim=1) * factor[:, None].double()
    largest = query.abs().amax(dim=1, keepdim=True)
    # The division by the largest entry rounds too.
    assert ((again - query.double()).abs() <= (error + 2**-23) * largest).all()
    assert triton.split_queries(query, torch.float32) == (query, None)
    assert triton.split_queries(parts, dtype) == (parts, None)


class TestGathered:
    @pytest.mark.parametrize('dtype', [*DTYPES, torch.float64])
    @pytest.mark.parametrize(
        ('queries', 'chosen', 'dim'), [(0, 3, 4), (2, 0, 4), (1, 1, 1), (3, 33, 20), (2, 600, 300)]
    )
    def test_sums_and_products(self, queries, chosen, dim, dtype):
        bank = unit_rows(50, dim, seed=4).to(DEVICE, dtype)
        query = unit_rows(queries, dim, seed=5).to(DEVICE)
        generator = torch.Generator().manual_seed(6)
        index = torch.randint(0, 50, (queries, chosen), generator=generator).to(DEVICE)
        weight = torch.randn(queries, chosen, generator=generator).to(DEVICE)
        rows = bank.double()[index]
        total = triton_gather.weighted_rows(weight, bank, index)
        expected = (weight[..., None].double() * rows).sum(dim=1)
        torch.testing.assert_close(total, expected.float(), rtol=1e-5, atol=1e-5)
        product = triton_gather.gathered_products(query, bank, index)
        expected = (query[:, None].double() * rows).sum(dim=2)
        torch.testing.assert_close(product, expected.float(), rtol=1e-5, atol=1e-6)

    def test_sums_are_the_same_every_time(self):
        bank, weight = unit_rows(90, 8, seed=7).to(DEVICE), unit_rows(2, 1200, seed=8).to(DEVICE)
        index = torch.arange(2400, device=DEVICE).view(2, 1200) % 90
        first, *others = (triton_gather.weighted_rows(weight, bank, index) for _ in range(4))
        assert all(torch.equal(other, first) for other in others)

    def test_arguments_with_gaps(self):
        bank = unit_rows(8, 50, seed=9).to(DEVICE).T
        weight, index = torch.rand(40, 3, device=DEVICE).T, torch.arange(120, device=DEVICE) % 50
        index = index.view(40, 3).T
        query = unit_rows(8, 3, seed=10).to(DEVICE).T
        expected = (weight[..., None] * bank[index]).sum(dim=1)
        torch.testing.assert_close(triton_gather.weighted_rows(weight, bank, index), expected)
        expected = (query[:, None] * bank[index]).sum(dim=2)
        torch.testing.assert_close(triton_gather.gathered_products(query, bank, index), expected)

    @pytest.mark.parametrize('dtype', DTYPES)
    def test_gradient_by_the_kernels(self, dtype, monkeypatch):
        """As on a GPU, where they are taken by themselves."""
        bank = unit_rows(40, 6, seed=11).to(DEVICE, dtype)
        query = unit_rows(3, 6, seed=12).to(DEVICE).requires_grad_()
        index = torch.arange(24, device=DEVICE).view(3, 8)
        results = []
        for kernels in (triton_gather, None):
            monkeypatch.setattr(similarity, 'gpu_kernels', lambda bank, kernels=kernels: kernels)
            found = similarity.bank_similarity(query, bank, index)
            results.append((found, *torch.autograd.grad(found.square().sum(), query)))
        for ours, plain in zip(*results, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_kernels_compile_for_gpus(tmp_path, monkeypatch):
    """To machine code that keeps all numbers in registers, whatever the dimensions."""
    pytest.importorskip('triton', minversion='3.6')
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    monkeypatch.setenv('TRITON_INTERPRET', '0')
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name('compile_kernels.py'), tmp_path],
        env=os.environ | dict(PYTHONPATH=str(Path(__file__).resolve().parents[3])),
        capture_output=True, text=True,
    )  # fmt: skip
    if 'ptxas' in result.stderr or 'cuobjdump' in result.stderr:
        pytest.skip('Triton has no assembler here')
    assert result.stdout == '0\n' * 36, result.stderr
