"""How many operations a step puts on a GPU.

On the meta device, with the sizes of ImageNet, and with the kernels replaced by counters: neither a
GPU nor time is needed, and the numbers are the same everywhere.
"""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmselfsup_invp import ops
from mmselfsup_invp.ops import search, similarity
from mmselfsup_invp.ops.search import self_test, threshold

from ..tools import NeverWaits

IMAGES, DIM, BATCH = 1_281_167, 128, 128
# Operations that launch no kernel, besides those that return a view.
FREE = ('detach', 'empty', 'empty_like', 'new_empty', '_unsafe_view')


class Launches(TorchDispatchMode):
    """Counts the operations, by name, that would launch kernels on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.count[name] += not func.is_view and name not in FREE
        return func(*args, **(kwargs or {}))


class CountedKernel:
    """Takes the place of a Triton kernel: counts its launches."""

    def __init__(self, name: str) -> None:
        self.name, self.launches = name, 0

    def __getitem__(self, grid):
        def launch(*args, **options) -> None:
            self.launches += 1

        return launch


@pytest.fixture
def kernels(monkeypatch) -> list[CountedKernel]:
    """Let the search on the meta device take the kernels, which only count."""
    try:
        self_test.kernels()
    except ImportError as error:
        pytest.skip(str(error))
    from mmselfsup_invp.ops.search import triton, triton_gather, triton_select

    counted = []
    for module in (triton, triton_gather, triton_select):
        for name in [name for name in vars(module) if name.endswith('_kernel')]:
            counted.append(CountedKernel(name))
            monkeypatch.setattr(module, name, counted[-1])
    monkeypatch.setattr(self_test, 'unsupported_reason', lambda bank: None)
    monkeypatch.setattr(self_test, 'passed', lambda device, dtype: True)
    monkeypatch.setattr(similarity, 'gpu_kernels', lambda bank: triton_gather)
    monkeypatch.setitem(search.PREFERRED, 'meta', 'triton')
    monkeypatch.setattr(threshold, '_fallbacks', {})  # Without the counter of the meta device.
    return counted


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device='meta')


def total(launches: Launches, kernels: list[CountedKernel]) -> int:
    assert all(kernel.launches for kernel in kernels), 'the step takes every kernel'
    return launches.count.total() + sum(kernel.launches for kernel in kernels)


# A little above the counts of PyTorch 2.11, 145, 157 and 279: they vary with the version.
@pytest.mark.parametrize(('dtype', 'most'), [(torch.float32, 150), (torch.float16, 162)])
def test_objective(kernels, dtype, most):
    """Walk on the graph, search, both losses and their gradient; nothing waits for the device."""
    bank, query = meta(IMAGES, DIM, dtype=dtype), meta(BATCH, DIM).requires_grad_()
    neighbours = meta(IMAGES, 4, dtype=torch.int64)
    anchor = meta(BATCH, dtype=torch.int64)
    with NeverWaits(), Launches() as launches:
        positive = ops.propagate(neighbours, anchor, hops=3)
        step = ops.invp_step(query, bank, anchor, positive, ops.HardSampling())
        torch.autograd.grad(step.instance + 0.6 * step.propagation, query)
    assert total(launches, kernels) <= most


def test_inter_branch(kernels):
    """A positive and the pool of negatives, their loss and its gradient."""
    bank, query = meta(IMAGES, DIM), meta(32, DIM).requires_grad_()
    label, own = meta(IMAGES, dtype=torch.int64), meta(32, dtype=torch.int64)
    with NeverWaits(), Launches() as launches:
        positive = ops.sample_positive(label, own)
        known, negative = ops.sample_negatives(
            'semi_hard', query.detach(), bank, label, own, 16384, 0.1
        )
        similarity = ops.bank_similarity(query, bank, positive[:, None]).squeeze(1)
        others = ops.bank_similarity(query, bank, negative, known)
        loss = ops.margin_nce(similarity, others, 0.1, -0.5).mean()
        torch.autograd.grad(loss, query)
    assert total(launches, kernels) <= 285
