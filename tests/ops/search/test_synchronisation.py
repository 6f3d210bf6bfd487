"""A training step never makes the host wait for the device.

On the meta device there is nothing to wait for: an operation that needs a value fails.
"""

import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.ops.search import self_test

from ..tools import NeverWaits, unit_rows

ROWS, QUERIES = 400, 3


def problem(device: str, seed: int = 13) -> tuple[torch.Tensor, ...]:
    """A bank, its graph, anchors and queries."""
    bank = unit_rows(ROWS, 8, seed).to(device)
    neighbours = (torch.arange(4 * ROWS, device=device).view(ROWS, 4) * seed) % ROWS
    anchor = torch.arange(QUERIES, device=device)
    return bank, neighbours, anchor, bank[:QUERIES].clone()


def step(bank, neighbours, anchor, query, backend: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of InvP."""
    query = query.requires_grad_()
    sampling = ops.HardSampling(0.1, num_background=12, num_hard=5, eps=1e-7)
    positive = ops.propagate(neighbours, anchor, 2)
    found = ops.invp_step(query, bank, anchor, positive, sampling, backend=backend)
    loss = found.instance + found.propagation
    return loss.detach(), *torch.autograd.grad(loss, query)


def watched_step(device: str, backend: str) -> None:
    arguments = problem(device)
    with NeverWaits():
        _, grad = step(*arguments, backend)
    assert grad.shape == (QUERIES, 8)


@pytest.mark.parametrize('backend', ['auto', 'torch'])
def test_objective_on_a_device(backend):
    watched_step('meta', backend)


@pytest.mark.parametrize('strategy', ['hard', 'semi_hard', 'random', 'semi_easy'])
def test_draws_on_a_device(strategy):
    query, bank = unit_rows(4, 8, seed=0).to('meta'), unit_rows(300, 8, seed=1).to('meta')
    label = torch.zeros(300, dtype=torch.int64, device='meta')
    with NeverWaits():
        found = ops.sample_negatives(strategy, query, bank, label, label[:4], 20)
        ops.sample_positive(label, label[:4], label[:4])
    assert found.index.shape == (4, 20)


def test_search_by_the_kernels(small_samples, monkeypatch):
    """Interpreted on the CPU."""
    if reason := self_test.unsupported_reason(torch.ones(1, 1)):
        pytest.skip(reason)
    calls, kernels = [], self_test.kernels()
    original = kernels.search_misled
    monkeypatch.setattr(kernels, 'search_misled', lambda *args: calls.append(1) or original(*args))
    watched_step('cpu', 'triton')
    assert calls == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('backend', ['torch', 'triton'])
def test_objective_on_a_gpu(backend, small_samples):
    if reason := self_test.unsupported_reason(torch.ones(1, 1, device='cuda')):
        pytest.skip(reason)
    self_test.passed(torch.device('cuda', 0), torch.float32)  # Which synchronises.
    arguments = problem('cuda')
    torch.cuda.set_sync_debug_mode('error')
    try:
        step(*arguments, backend)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('backend', ['torch', 'triton'])
def test_objective_in_a_cuda_graph(backend, small_samples):
    if reason := self_test.unsupported_reason(torch.ones(1, 1, device='cuda')):
        pytest.skip(reason)
    arguments, stream = problem('cuda'), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(*arguments, backend)  # Compiles, runs the self-test and makes the counters.
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(*arguments, backend)
    with torch.no_grad():
        for argument, value in zip(arguments, problem('cuda', seed=7), strict=True):
            argument.copy_(value)
    graph.replay()
    for one, other in zip(found, step(*problem('cuda', seed=7), backend), strict=True):
        torch.testing.assert_close(one, other)


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
