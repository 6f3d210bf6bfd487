"""The self-test of the Triton kernels, by the interpreter: it must see every fault."""

import pytest
import torch

from mmselfsup_invp.ops.search import self_test

from ..tools import DEVICE

if reason := self_test.unsupported_reason(torch.ones(1, 1, device=DEVICE)):
    pytest.skip(reason, allow_module_level=True)
from mmselfsup_invp.ops.search import triton, triton_gather


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Problems that the interpreter solves in a second."""
    cases = [case._replace(queries=5, rows=201, m=15, dim=20) for case in self_test.CASES]
    monkeypatch.setattr(self_test, 'CASES', cases)
    self_test.passed.cache_clear()
    yield
    self_test.passed.cache_clear()


def run_all(dtype=torch.float32):
    for case in self_test.CASES:
        self_test.run_case(case, torch.device(DEVICE), dtype)


@pytest.mark.parametrize('dtype', self_test.DTYPES)
def test_the_kernels_pass(dtype):
    run_all(dtype)


@pytest.mark.parametrize(
    ('dtype', 'mode'), [(torch.float16, torch.bfloat16), (torch.bfloat16, torch.float16)]
)
def test_autocast_does_not_fail_the_kernels(dtype, mode):
    """A training step calls them first, and the result is kept."""
    case = self_test.CASES[0]
    with torch.autocast(DEVICE, dtype=mode):
        self_test.run_case(case, torch.device(DEVICE), dtype)


def test_the_programs_of_training_are_tried(monkeypatch):
    """The sizes that choose a program, its blocks and what it is given."""
    monkeypatch.undo()
    largest = triton.QUERY_BYTES // 2
    requests = [
        self_test.make_request(case, torch.device('cpu'), torch.float16) for case in self_test.CASES
    ]
    excludes = [request.exclude is not None for request in requests]
    labels = [request.labels is not None for request in requests]
    assert excludes == [False, True, True] and labels == [False, False, True]
    for case in self_test.CASES[:2]:
        assert largest < case.queries < 2 * largest and case.dim == 128


def spoil(module, name, change):
    """Let a function of the kernels give something else."""

    def apply(monkeypatch):
        right = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: change(right(*args)))

    return apply


def other_row(found):
    return found._replace(index=found.index.roll(1, dims=1))


def lower(found):
    return found._replace(similarity=found.similarity - 1e-3)


def repeated(found):
    for values in found:
        values[0, 1] = values[0, 0]
    return found


@pytest.mark.parametrize('dtype', self_test.DTYPES)
def test_thresholds_that_are_meant_to_be_right_are(dtype, monkeypatch):
    """In the sizes that the interpreter does not try."""
    monkeypatch.undo()
    for case in self_test.CASES:
        request = self_test.make_request(case, torch.device('cpu'), dtype)
        every = request.query.float() @ request.bank.float().T
        request.mask(every, slice(0, None))
        lowest = every.topk(case.m).values[:, -1:]
        count = (every >= lowest - self_test.MARGIN - self_test.TOLERANCE).sum(dim=1)
        assert count.max() <= self_test.BUFFER * case.m


FAULTS = {
    'rows are off': spoil(triton, 'search', other_row),
    'similarities are off': spoil(triton, 'search', lower),
    '(similarities|repeated rows) are off': spoil(triton, 'search', repeated),
    'products are off': spoil(triton_gather, 'gathered_products', lambda found: found * 1.01),
    'sums of rows are off': spoil(triton_gather, 'weighted_rows', lambda found: found + 0.01),
}


@pytest.mark.parametrize('message', FAULTS)
def test_a_fault_is_seen(message, monkeypatch):
    FAULTS[message](monkeypatch)
    with pytest.raises(AssertionError, match=message):
        run_all()


def test_queries_that_are_not_searched_again_are_seen(monkeypatch):
    monkeypatch.setattr(triton, 'search_misled', lambda *args: None)
    with pytest.raises(AssertionError, match='are off'):
        run_all()


def test_a_gpu_that_fails_is_warned_of_once_and_left_to_pytorch(monkeypatch):
    calls = []

    def fail(case, device, dtype):
        calls.append(device)
        raise RuntimeError('no ptxas')

    monkeypatch.setattr(self_test, 'run_case', fail)
    gpu = torch.device('cuda', 0)
    message = r'do not work on cuda:0 for torch.float16 \(no ptxas\); PyTorch searches'
    with pytest.warns(UserWarning, match=message):
        assert not self_test.passed(gpu, torch.float16)
    assert not self_test.passed(gpu, torch.float16) and calls == [gpu]


def test_a_gpu_that_passes_is_believed_for_the_type_that_was_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(self_test, 'run_case', lambda case, device, dtype: tried.append(dtype))
    for dtype in (torch.float16, torch.float16, torch.float32):
        assert self_test.passed(torch.device('cuda', 0), dtype)
    assert tried == [torch.float16] * 3 + [torch.float32] * 3
    assert self_test.gpu_kernels(torch.ones(2, 2)) is None, 'the bank is on the CPU'
