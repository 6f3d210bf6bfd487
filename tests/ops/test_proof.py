"""The trial of the Triton kernels, by the interpreter: it must see every fault."""

import pytest
import torch

from mmselfsup_invp.ops import devices, proof

if reason := devices.fused_obstacle(torch.ones(1, 1)):
    pytest.skip(reason, allow_module_level=True)
CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Problems that the interpreter solves in a second."""
    trials = [trial._replace(queries=9, rows=401, found=30) for trial in proof.TRIALS]
    monkeypatch.setattr(proof, 'TRIALS', [trial._replace(dim=20) for trial in trials])
    proof.proven.cache_clear()
    yield
    proof.proven.cache_clear()


def try_all(dtype=torch.float32):
    for trial in proof.TRIALS:
        proof.try_kernels(trial, CPU, dtype)


@pytest.mark.parametrize('dtype', devices.DTYPES)
def test_the_kernels_pass(dtype):
    try_all(dtype)


def test_the_programs_of_training_are_tried(monkeypatch):
    """The sizes that choose a program, its blocks and what it is given."""
    monkeypatch.undo()
    largest = devices.kernels().QUERY_BYTES // 2
    hidden = [proof._problem(trial, CPU, torch.float16)[2] for trial in proof.TRIALS]
    excludes = [one.exclude is not None for one in hidden]
    labels = [one.bank_label is not None for one in hidden]
    assert excludes == [False, True, True] and labels == [False, False, True]
    for trial in proof.TRIALS[:2]:
        assert largest < trial.queries < 2 * largest and trial.dim == 128


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


@pytest.mark.parametrize('dtype', devices.DTYPES)
def test_thresholds_that_are_meant_to_be_right_are(dtype, monkeypatch):
    """In the sizes that the interpreter does not try."""
    monkeypatch.undo()
    for trial in proof.TRIALS:
        query, bank, hidden = proof._problem(trial, CPU, dtype)
        every = query.float() @ bank.float().T
        hidden.mask(every, slice(0, None))
        lowest = every.topk(trial.found).values[:, -1:]
        count = (every >= lowest - proof.MARGIN - proof.TOLERANCE).sum(dim=1)
        assert count.max() <= proof.ROOM * trial.found


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
        try_all()


def test_queries_that_are_not_searched_again_are_seen(monkeypatch):
    monkeypatch.setattr(devices.kernels(), 'settle', lambda *args: None)
    with pytest.raises(AssertionError, match='are off'):
        try_all()


def test_a_gpu_that_fails_is_warned_of_once_and_left_to_pytorch(monkeypatch):
    calls = []

    def fail(trial, device, dtype):
        calls.append(device)
        raise RuntimeError('no ptxas')

    monkeypatch.setattr(proof, 'try_kernels', fail)
    gpu = torch.device('cuda', 0)
    message = r'do not work on cuda:0 for torch.float16 \(no ptxas\); PyTorch searches'
    with pytest.warns(UserWarning, match=message):
        assert not proof.proven(gpu, torch.float16)
    assert not proof.proven(gpu, torch.float16) and calls == [gpu]


def test_a_gpu_that_passes_is_believed_for_the_type_that_was_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(proof, 'try_kernels', lambda trial, device, dtype: tried.append(dtype))
    for dtype in (torch.float16, torch.float16, torch.float32):
        assert proof.proven(torch.device('cuda', 0), dtype)
    assert tried == [torch.float16] * 3 + [torch.float32] * 3
    assert proof.gpu_kernels(torch.ones(2, 2)) is None, 'the bank is on the CPU'
