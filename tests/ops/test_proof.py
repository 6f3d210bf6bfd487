"""The trial of the Triton kernels, by the interpreter: it must see every fault."""

import pytest
import torch

from mmselfsup_invp.ops import devices, proof

if reason := devices.fused_obstacle(torch.ones(1, 1)):
    pytest.skip(reason, allow_module_level=True)
CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A problem that the interpreter solves in a second."""
    for name, size in dict(QUERIES=8, ROWS=400, DIM=20, FOUND=30).items():
        monkeypatch.setattr(proof, name, size)
    proof.proven.cache_clear()
    yield
    proof.proven.cache_clear()


@pytest.mark.parametrize('dtype', devices.DTYPES)
def test_the_kernels_pass(dtype):
    proof.try_kernels(CPU, dtype)


def spoil(name, change):
    """Let a function of the kernels give something else."""

    def apply(monkeypatch):
        kernels = devices.kernels()
        right = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *args: change(right(*args)))

    return apply


def other_row(found):
    similarity, index = found
    return similarity, index.roll(1, dims=1)


def lower(found):
    similarity, index = found
    return similarity - 1e-3, index


def repeated(found):
    similarity, index = found
    index[0, 1] = index[0, 0]
    similarity[0, 1] = similarity[0, 0]
    return similarity, index


FAULTS = {
    'rows are off': spoil('search', other_row),
    'similarities are off': spoil('search', lower),
    '(similarities|repeated rows) are off': spoil('search', repeated),
    'products are off': spoil('gathered_products', lambda found: found * 1.01),
    'sums of rows are off': spoil('weighted_rows', lambda found: found + 0.01),
}


@pytest.mark.parametrize('message', FAULTS)
def test_a_fault_is_seen(message, monkeypatch):
    FAULTS[message](monkeypatch)
    with pytest.raises(AssertionError, match=message):
        proof.try_kernels(CPU, torch.float32)


def test_queries_that_are_not_searched_again_are_seen(monkeypatch):
    monkeypatch.setattr(devices.kernels(), 'settle', lambda *args: None)
    with pytest.raises(AssertionError, match='are off'):
        proof.try_kernels(CPU, torch.float32)


def test_a_gpu_that_fails_is_warned_of_once_and_left_to_pytorch(monkeypatch):
    calls = []

    def fail(device, dtype):
        calls.append(device)
        raise RuntimeError('no ptxas')

    monkeypatch.setattr(proof, 'try_kernels', fail)
    gpu = torch.device('cuda', 0)
    with pytest.warns(UserWarning, match=r'do not work on cuda:0 \(no ptxas\); PyTorch searches'):
        assert not proof.proven(gpu)
    assert not proof.proven(gpu) and calls == [gpu]


def test_a_gpu_that_passes_is_believed(monkeypatch):
    tried = []
    monkeypatch.setattr(proof, 'try_kernels', lambda device, dtype: tried.append(dtype))
    assert proof.proven(torch.device('cuda', 0)) and tried == list(devices.DTYPES)
    assert proof.gpu_kernels(torch.ones(2, 2)) is None, 'the bank is on the CPU'
