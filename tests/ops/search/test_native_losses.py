"""The parts of the losses in C: exponentials, and products with and sums of chosen rows."""

import pytest
import torch

from mmselfsup_invp.ops.search import native

from ..tools import unit_rows


@pytest.mark.parametrize('width', [1, 9, 300])
@pytest.mark.parametrize('temperature', [0.01, 1.0])
def test_masked_exponentials(build, threads, width, temperature):
    generator = torch.Generator().manual_seed(0)
    value = torch.rand(5, width, generator=generator) * 2 - 1
    masked = torch.rand(5, width, generator=generator) < 0.3
    masked[:, 0], masked[1], masked[2] = False, False, True
    for mask in (masked, None):
        visible = value if mask is None else value.masked_fill(mask, -torch.inf)
        exps, highest, total = native.masked_exponentials(value, mask, temperature)
        assert torch.equal(highest, visible.amax(dim=1).clamp(min=torch.finfo().min))
        # The difference is rounded, and then divided.
        expected = (visible.double() - highest[:, None]).div(temperature).exp()
        torch.testing.assert_close(exps.double(), expected, rtol=1e-5, atol=1e-37)
        torch.testing.assert_close(total.double(), expected.sum(dim=1), rtol=1e-5, atol=1e-37)


def test_exponentials_are_as_accurate_as_float32(build):
    value = -torch.linspace(0, 88, 10_007)[None]
    exps, _, _ = native.masked_exponentials(value, None, 1.0)
    expected = value.double().exp().masked_fill_(value < -87, 0)
    torch.testing.assert_close(exps.double(), expected, rtol=2**-23, atol=0)


def test_exponentials_of_special_numbers(build):
    value = torch.tensor([[0.5, torch.nan, 0.5], [-torch.inf, 0.5, -1e30]])
    exps, _, total = native.masked_exponentials(value, None, 0.1)
    torch.testing.assert_close(total, torch.tensor([torch.nan, 1]), equal_nan=True)
    assert exps[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize('dim', [1, 8, 72, 300])
@pytest.mark.parametrize('chosen', [0, 1, 40])
def test_gathered_products(build, threads, chosen, dim):
    query, bank = unit_rows(7, dim, seed=1), unit_rows(90, dim, seed=2)
    index = torch.randint(90, (7, chosen), generator=torch.Generator().manual_seed(3))
    for rows in (bank, bank.T.contiguous().T):
        expected = torch.einsum('bd,bmd->bm', query.double(), rows.double()[index])
        ours = native.gathered_products(query, rows, index)
        torch.testing.assert_close(ours, expected.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize('dim', [1, 8, 72, 300])
@pytest.mark.parametrize('ascending', [True, False])
@pytest.mark.parametrize(('queries', 'chosen', 'rows'), [(1, 1, 1), (3, 700, 90), (33, 40, 5000)])
def test_weighted_rows(build, threads, queries, chosen, rows, ascending, dim):
    generator = torch.Generator().manual_seed(0)
    bank, weight = unit_rows(rows, dim, seed=1), unit_rows(queries, chosen, seed=2)
    index = torch.randint(rows, (queries, chosen), generator=generator)
    index = index.sort(dim=1).values if ascending else index
    expected = (weight[..., None].double() * bank.double()[index]).sum(dim=1)
    ours = native.weighted_rows(weight, bank, index)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-5, atol=1e-6)


def test_weighted_rows_of_arguments_with_gaps(build):
    wide, weight = unit_rows(50, 12, seed=3), unit_rows(4, 6, seed=4).T
    index = (torch.arange(24) * 7 % 50).view(4, 6).T
    for bank in (wide[:, :9], wide.T.contiguous().T):
        expected = (weight[..., None] * bank[index]).sum(dim=1)
        torch.testing.assert_close(native.weighted_rows(weight, bank, index), expected)


@pytest.mark.parametrize('shape', [(0, 3), (2, 0)])
def test_weighted_rows_of_nothing(build, shape):
    index = torch.zeros(shape, dtype=torch.int64)
    total = native.weighted_rows(torch.ones(shape), unit_rows(5, 4, seed=5), index)
    assert total.shape == (shape[0], 4) and not total.any()


@pytest.mark.parametrize('row', [-1, 5, 2**40])
def test_rows_outside_the_bank_are_refused(build, row):
    index = torch.tensor([[0, 4, 1], [3, row, 2]])
    bank = unit_rows(5, 4, seed=6)
    with pytest.raises(IndexError, match='rows 0 to 4'):
        native.weighted_rows(torch.ones(2, 3), bank, index)
    with pytest.raises(IndexError, match='rows 0 to 4'):
        native.gathered_products(torch.ones(2, 4), bank, index)
