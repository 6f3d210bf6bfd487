"""A training step never makes the host wait for the device.

On the meta device there is nothing to wait for: an operation that needs a value fails.
"""

import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.ops.search import self_test

from ..tools import NeverWaits, unit_rows


def step(device: str, backend: str) -> None:
    rows, k, m = 400, 4, 12
    bank = unit_rows(rows, 8, seed=13).to(device)
    neighbours = torch.arange(rows, device=device)[:, None].repeat(1, k)
    anchor = torch.arange(3, device=device)
    query = bank[:3].clone().requires_grad_()
    sampling = ops.HardSampling(0.1, num_background=m, num_hard=5, eps=1e-7)
    with NeverWaits():
        positive = ops.propagate(neighbours, anchor, 2)
        found = ops.invp_step(query, bank, anchor, positive, sampling, backend=backend)
        loss = found.instance + found.propagation
        (grad,) = torch.autograd.grad(loss, query)
    assert grad.shape == query.shape


@pytest.mark.parametrize('backend', ['auto', 'torch'])
def test_objective_on_a_device(backend):
    step('meta', backend)


@pytest.mark.parametrize('strategy', ['hard', 'semi_hard', 'random', 'semi_easy'])
def test_draws_on_a_device(strategy):
    query, bank = unit_rows(4, 8, seed=0).to('meta'), unit_rows(300, 8, seed=1).to('meta')
    label = torch.zeros(300, dtype=torch.int64, device='meta')
    with NeverWaits():
        found = ops.sample_negatives(strategy, query, bank, label, label[:4], 20)
        ops.sample_positive(label, label[:4], label[:4])
    assert found.index.shape == (4, 20)


def test_search_by_the_kernels(small_samples, monkeypatch):
    if reason := self_test.unsupported_reason(torch.ones(1, 1)):
        pytest.skip(reason)
    calls, kernels = [], self_test.kernels()
    original = kernels.search_misled
    monkeypatch.setattr(kernels, 'search_misled', lambda *args: calls.append(1) or original(*args))
    step('cpu', 'triton')
    assert calls == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('backend', ['torch', 'triton'])
def test_objective_on_a_gpu(backend, small_samples):
    if reason := self_test.unsupported_reason(torch.ones(1, 1, device='cuda')):
        pytest.skip(reason)
    self_test.passed(torch.device('cuda', 0), torch.float32)  # Which synchronises.
    torch.cuda.set_sync_debug_mode('error')
    try:
        step('cuda', backend)
    finally:
        torch.cuda.set_sync_debug_mode('default')


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
def test_waiting_is_noticed(wait):
    with pytest.raises(AssertionError, match='wait'), NeverWaits():
        wait(torch.ones(3))
