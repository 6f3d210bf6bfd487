"""The sample of the bank and the thresholds that it suggests."""

import pytest
import torch

from mmselfsup_invp.ops import search
from mmselfsup_invp.ops.search import threshold
from mmselfsup_invp.ops.search.request import Request

from ..tools import unit_rows


def request_of(queries: int, rows: int, m: int) -> Request:
    """A search on a GPU of that size, without data."""
    query, bank = torch.empty(queries, 8, device='meta'), torch.empty(rows, 8, device='meta')
    return Request(query, bank, m, max_elements=search.DEVICE_ELEMENTS)


@pytest.mark.parametrize('stride', [3, 24, 97])
def test_a_sample_has_a_row_of_each_stretch(stride):
    rows = threshold.sample_rows(torch.empty(5000), stride)
    assert torch.equal(rows // stride, torch.arange(5000 // stride))
    assert len((rows % stride).unique()) > stride / 3


@pytest.mark.parametrize('classes', [2, 3, 8, 10, 24, 100, 233, 1000])
def test_classes_that_take_turns_do_not_mislead(classes):
    """As in a data set that is ordered so; the sample must not show some of them alone."""
    generator = torch.Generator().manual_seed(38)
    centre = unit_rows(classes, 16, seed=39)[torch.arange(40_000) % classes]
    bank = centre + 0.2 * torch.randn(40_000, 16, generator=generator)
    query = bank[torch.randperm(40_000, generator=generator)[:16]]
    request = Request(query, bank, 600)
    for plan in (threshold.plan_cpu(request), threshold.plan_gpu(request_of(16, 40_000, 600))):
        limit = threshold.sample_threshold(request, plan)
        count = (query @ bank.T >= limit[:, None]).sum(dim=1)
        assert ((count < 600) | (count > plan.width)).sum() <= 1


class TestPlan:
    # Queries, rows of the bank and rows to find: objective, graph, a larger bank, the inter branch.
    SIZES = [
        (128, 1281167, 4097), (1024, 1281167, 4), (128, 10**7, 4097), (32, 1281167, 128117),
        (50_000, 1281167, 20), (50_000, 10**7, 200),
    ]  # fmt: skip

    @pytest.mark.parametrize(('queries', 'rows', 'm'), SIZES)
    def test_memory_is_bounded(self, queries, rows, m):
        limit = search.DEVICE_ELEMENTS
        most = threshold.gpu_queries(request_of(1, rows, m))
        # One more would exceed the limit.
        assert most == threshold.GPU_QUERIES or (most + 1) * rows > limit * threshold.GPU_STRIDE
        queries = min(queries, most)
        plan = threshold.plan_gpu(request_of(queries, rows, m))
        assert (rows // plan.stride) * queries <= limit
        # Similarity and row of what may pass.
        assert 8 * queries * plan.width <= max(2**25, 2.5 * 8 * queries * m)

    @pytest.mark.parametrize(('queries', 'rows', 'm'), SIZES)
    def test_a_random_sample_hardly_ever_misleads(self, queries, rows, m):
        """The share of rows above the threshold has a beta distribution."""
        queries = min(queries, threshold.gpu_queries(request_of(1, rows, m)))
        plan = threshold.plan_gpu(request_of(queries, rows, m))
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
        plan = threshold.plan_gpu(request_of(40, len(bank), m))
        rows = threshold.sample_rows(bank, plan.stride)
        bank[:, 0] = 0.1 * bank[:, 0]
        bank[rows, 0] += sampled
        own = rows[:40]
        query = bank[own]
        limits = threshold.sample_threshold(Request(query, bank, m, own), plan)
        passes = query @ bank.T >= limits[:, None] - 1e-6
        passes[torch.arange(40), own] = False
        assert plan.rank == m + threshold.SPARE_RANKS and (passes.sum(dim=1) >= m).all()

    def test_small_banks_are_not_sampled(self):
        assert threshold.plan_gpu(request_of(128, 20_000, 4097)) is None
        assert threshold.plan_gpu(request_of(0, 10**6, 4)) is None
