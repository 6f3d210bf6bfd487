import pytest
import torch

from mmselfsup_invp.ops import bank_similarity, full_logsumexp, similarity
from mmselfsup_invp.ops.similarity import masked_logsumexp

from .tools import Allocations, unit_rows

pytestmark = pytest.mark.usefixtures('compiled')
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def batch(dtype=torch.float32, queries=5, rows=40, width=7):
    """Random queries, a bank, indices with repeats and weights for the gradient."""
    query = unit_rows(queries, 6, seed=0).requires_grad_()
    bank = unit_rows(rows, 6, seed=1).to(dtype)
    generator = torch.Generator().manual_seed(2)
    index = torch.randint(0, rows, (queries, width), generator=generator)
    return query, bank, index, torch.randn(queries, width, generator=generator)


def plain_similarity(query, bank, index):
    """The same by all pairs, in float64 and on the graph of autograd."""
    return (query.double() @ bank.double().T).gather(1, index)


@pytest.mark.parametrize('limit', [1, 90, 2**21])
@pytest.mark.parametrize('dtype', DTYPES)
def test_gathered_similarity_and_gradient(dtype, limit, monkeypatch):
    monkeypatch.setattr(similarity, 'default_elements', lambda device: limit)
    query, bank, index, weight = batch(dtype)
    ours, plain = bank_similarity(query, bank, index), plain_similarity(query, bank, index)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, plain.float())
    (grad,) = torch.autograd.grad((ours * weight).sum(), query)
    (expected,) = torch.autograd.grad((plain * weight).sum(), query)
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-6)


def test_known_similarities_are_taken_as_they_are():
    query, bank, index, weight = batch()
    known = torch.arange(35.0).view(5, 7)
    ours = bank_similarity(query, bank, index, known)
    assert torch.equal(ours, known)
    (grad,) = torch.autograd.grad((ours * weight).sum(), query)
    (expected,) = torch.autograd.grad((bank_similarity(query, bank, index) * weight).sum(), query)
    assert torch.equal(grad, expected)


def test_gradient_flows_to_the_query_alone():
    query, bank, index, _ = batch()
    bank.requires_grad_()
    (bank_similarity(query, bank, index).sum() + full_logsumexp(query, bank, 0.1).sum()).backward()
    assert bank.grad is None
    assert query.grad.abs().sum() > 0
    assert not bank_similarity(query.detach(), bank, index).requires_grad
    assert not full_logsumexp(query.detach(), bank, 0.1).requires_grad


@pytest.mark.parametrize('dtype', DTYPES)
def test_gradient_has_the_type_of_the_query(dtype):
    query, bank, index, _ = batch()
    query = query.detach().to(dtype).requires_grad_()
    (bank_similarity(query, bank, index).sum() + full_logsumexp(query, bank, 0.1).sum()).backward()
    assert query.grad.dtype == dtype


@pytest.mark.parametrize('dtype', DTYPES)
def test_autocast_does_not_lower_the_precision(dtype):
    query, bank, index, weight = batch(dtype)

    def step():
        loss = (bank_similarity(query, bank, index) * weight).sum()
        loss = loss + full_logsumexp(query, bank, 0.1).sum()
        return loss.detach(), *torch.autograd.grad(loss, query)

    expected = step()
    with torch.autocast('cpu', torch.bfloat16):
        for ours, plain in zip(step(), expected, strict=True):
            assert torch.equal(ours, plain)


@pytest.mark.parametrize('max_elements', [1, 60, 2**21])
@pytest.mark.parametrize('temperature', [0.01, 0.07, 1.0])
@pytest.mark.parametrize('dtype', DTYPES)
def test_full_logsumexp_is_that_of_torch(dtype, temperature, max_elements):
    query, bank, _, weight = batch(dtype)
    ours = full_logsumexp(query, bank, temperature, max_elements=max_elements)
    plain = (query.double() @ bank.double().T / temperature).logsumexp(dim=1)
    torch.testing.assert_close(ours, plain.float(), rtol=1e-5, atol=1e-5)
    (grad,) = torch.autograd.grad((ours * weight[:, 0]).sum(), query)
    (expected,) = torch.autograd.grad((plain * weight[:, 0]).sum(), query)
    scale = 1 / temperature
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-6 * scale)


def test_masked_logsumexp_and_gradient():
    _, _, _, entry = batch(queries=6, width=9)
    entry.requires_grad_()
    hidden = torch.rand(6, 9, generator=torch.Generator().manual_seed(3)) < 0.5
    hidden[0], hidden[1] = True, False
    ours = masked_logsumexp(entry, hidden, 0.3)
    rows = [row[~hide] / 0.3 for row, hide in zip(entry.double(), hidden, strict=True)]
    torch.testing.assert_close(ours, torch.stack([row.logsumexp(0) for row in rows]).float())
    (grad,) = torch.autograd.grad(ours[1:].square().sum(), entry)
    (expected,) = torch.autograd.grad(sum(row.logsumexp(0).square() for row in rows[1:]), entry)
    torch.testing.assert_close(grad, expected)


def test_masked_logsumexp_without_mask_hides_nothing():
    _, _, _, entry = batch()
    assert torch.equal(
        masked_logsumexp(entry, None, 0.5),
        masked_logsumexp(entry, torch.zeros(5, 7, dtype=torch.bool), 0.5),
    )


def test_a_row_with_all_hidden_gives_no_gradient():
    entry = torch.tensor([[1.0, 2.0]], requires_grad=True)
    total = masked_logsumexp(entry, torch.tensor([[True, True]]), 0.1)
    assert total.item() == -torch.inf
    (grad,) = torch.autograd.grad(total.sum(), entry)
    assert torch.equal(grad, torch.zeros(1, 2))


def test_full_logsumexp_streams():
    query, bank, _, _ = batch(rows=30_000, queries=64)
    limit = 2**15
    with Allocations() as allocations:
        full_logsumexp(query, bank, 0.1, max_elements=limit).sum().backward()
    assert allocations.largest <= limit


@pytest.mark.parametrize('dtype', DTYPES)
def test_gathered_rows_are_never_held_at_once(dtype, monkeypatch):
    monkeypatch.setattr(similarity, 'default_elements', lambda device: 2**12)
    query, bank, index, weight = batch(dtype, queries=64, rows=500, width=300)
    with Allocations() as allocations:
        (bank_similarity(query, bank, index) * weight).sum().backward()
    assert allocations.largest == 64 * 300 < 64 * 300 * 6
