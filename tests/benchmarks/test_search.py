"""The benchmark of the search: its data, its checks, and the settings of the kernel."""

import argparse
import functools

import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.ops.search import threshold


@pytest.fixture
def search(benchmark_module):
    return benchmark_module('search')


def arguments(**changes) -> argparse.Namespace:
    options = dict(
        num=400, dim=8, batch=3, m=5, order='random', dtype='float32', device='cpu',
        backend='auto', constants=None,
    )  # fmt: skip
    return argparse.Namespace(**options | changes)


def test_rows_of_a_class_stand_side_by_side(search, monkeypatch):
    monkeypatch.setattr(search, 'CLASSES', 4)
    found = {}
    for order in ('random', 'classes'):
        query, bank = search.make_problem(arguments(order=order, dim=64))
        torch.testing.assert_close(bank.norm(dim=1), torch.ones(400))
        torch.testing.assert_close(query.norm(dim=1), torch.ones(3))
        found[order] = (bank[1:] * bank[:-1]).sum(dim=1).mean()
    # Rows of a class share their centre: 1 / (1 + 1.2 ** 2) = 0.41.
    assert found['classes'] > 0.35 and found['random'] < 0.2


def test_wrong_rows_stop_it(search, monkeypatch):
    search.check(arguments())
    monkeypatch.setattr(ops, 'top_m', lambda query, bank, m, **_: search.plain(query, -bank, m))
    with pytest.raises(AssertionError):
        search.check(arguments())


class TestConstants:
    @pytest.fixture
    def kernels(self, search, monkeypatch):
        pytest.importorskip('triton')
        kernels = search.self_test.kernels()
        for name in search.CONSTANTS:
            monkeypatch.setattr(kernels, name, getattr(kernels, name))
        return kernels

    @pytest.fixture
    def steps(self, search, kernels):
        """The settings of a search that finds the number of warps, and cannot run with 16."""
        from triton.runtime.errors import OutOfResources

        def found(offset: float = 0.0) -> ops.Neighbours:
            if kernels.FILTER_WARPS == 16:
                raise OutOfResources(2, 1, 'registers')
            return ops.Neighbours(torch.full((1, 1), offset * kernels.FILTER_WARPS), torch.ones(1))

        def steps(offset: float = 0.0, **constants):
            args = arguments(constants=constants)
            return search.tuned_steps(args, functools.partial(found, offset))

        return steps

    def test_every_setting_that_runs_is_compared_with_the_source(self, steps, kernels, capsys):
        warps, stages = shipped = kernels.FILTER_WARPS, kernels.FILTER_STAGES
        found = steps(FILTER_WARPS=[8, warps, 16], FILTER_STAGES=[stages, 9])
        assert list(found) == [
            f'FILTER_WARPS=8 FILTER_STAGES={stages}', 'FILTER_WARPS=8 FILTER_STAGES=9',
            f'FILTER_WARPS={warps} FILTER_STAGES=9', 'shipped constants',
        ]  # fmt: skip
        assert 'out of resource' in capsys.readouterr().out
        found['FILTER_WARPS=8 FILTER_STAGES=9']()
        assert (kernels.FILTER_WARPS, kernels.FILTER_STAGES) == (8, 9)
        found['shipped constants']()
        assert shipped == (kernels.FILTER_WARPS, kernels.FILTER_STAGES)

    def test_a_setting_that_finds_other_rows_stops_it(self, steps):
        with pytest.raises(AssertionError):
            steps(offset=1.0, FILTER_WARPS=[8])

    def test_the_kernel_takes_a_setting(self, search, kernels, small_samples):
        """Interpreted on the CPU."""
        query, bank = search.make_problem(arguments())
        find = functools.partial(ops.top_m, query, bank, 5, backend='triton')
        steps = search.tuned_steps(arguments(constants=dict(QUERY_BYTES=[128])), find)
        assert list(steps) == ['QUERY_BYTES=128', 'shipped constants']

    @pytest.mark.parametrize('text', ['FILTER_WARPS', 'FILTER_WARPS=', 'ROWS=3'])
    def test_other_text_is_refused(self, search, text):
        with pytest.raises(argparse.ArgumentTypeError, match='is not NAME=VALUE'):
            search.constant(text)

    def test_names_and_values(self, search):
        assert search.constant('FILTER_WARPS=4,8') == ('FILTER_WARPS', [4, 8])
        assert search.constant('FLOAT32_PRODUCTS=tf32x3') == ('FLOAT32_PRODUCTS', ['tf32x3'])


@pytest.fixture
def small_samples(monkeypatch):
    """Let a few hundred rows be enough for the kernel."""
    monkeypatch.setattr(threshold, 'SAMPLE_STRIDE', 3)
    monkeypatch.setattr(threshold, 'SAMPLE_RANK', 3)
    monkeypatch.setattr(threshold, 'GPU_DEVIATIONS', 1)
