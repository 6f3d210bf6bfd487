"""On a GPU every operation gives what it gives on the CPU, which other tests compare with float64.

Under autocast and with deterministic algorithms too. Without a GPU the operations run on the CPU
under both. The last tests need a GPU, or two.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mmselfsup_invp import ops
from mmselfsup_invp.ops.search import self_test
from mmselfsup_invp.ops.soft_propagation import WalkOptions, soft_cross_entropy, soft_walk
from mmselfsup_invp.ops.view_contrast import view_contrast_loss

from .tools import DEVICE, unit_rows

ROWS, QUERIES, CLUSTERS = 400, 12, 5
SAMPLING = ops.HardSampling(0.1, num_background=60, num_hard=5)
needs_gpu = pytest.mark.skipif(DEVICE == 'cpu', reason='no GPU')


def problem(device: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> SimpleNamespace:
    """A bank, its graph and its labels, and queries near some of its rows."""
    generator = torch.Generator().manual_seed(seed)
    bank = unit_rows(ROWS, 16, seed)
    anchor = torch.randperm(ROWS, generator=generator)[:QUERIES]
    data = dict(
        bank=bank.to(dtype),
        anchor=anchor,
        query=bank[anchor] + 0.1 * unit_rows(QUERIES, 16, seed + 1),
        neighbours=torch.randint(ROWS, (ROWS, 4), generator=generator),
        label=torch.randint(CLUSTERS, (ROWS,), generator=generator),
        index=torch.randint(ROWS, (QUERIES, 30), generator=generator),
    )
    return SimpleNamespace(**{key: value.to(device) for key, value in data.items()})


def with_gradient(function: Callable[[Tensor], Tensor], leaf: Tensor) -> tuple[Tensor, Tensor]:
    """The value, and the gradient of a weighted sum of it."""
    leaf = leaf.clone().requires_grad_()
    value = function(leaf)
    weight = torch.linspace(1, 2, value.numel(), device=value.device).view_as(value)
    # As PyTorch asks for, and as the optimiser wrappers of MMEngine do.
    with torch.autocast(DEVICE, enabled=False):
        return value.detach(), *torch.autograd.grad((value * weight).sum(), leaf)


def search(data: SimpleNamespace) -> ops.Neighbours:
    labels = data.label[data.anchor], data.label
    return ops.top_m(data.query, data.bank, 9, exclude=data.anchor, labels=labels)


def propagate(data: SimpleNamespace) -> tuple[Tensor, Tensor]:
    index, mask = ops.propagate(data.neighbours, data.anchor, 3)
    return index.masked_fill(~mask, -1), mask


def objective(data: SimpleNamespace) -> tuple[Tensor, ...]:
    positive = ops.propagate(data.neighbours, data.anchor, 3)
    found = []

    def loss(query: Tensor) -> Tensor:
        found.append(ops.invp_step(query, data.bank, data.anchor, positive, SAMPLING))
        return found[0].instance + 0.6 * found[0].propagation

    return *with_gradient(loss, data.query), found[0].neighbours.sort(dim=1).values


def walk(data: SimpleNamespace) -> tuple[Tensor, ...]:
    index, weight = soft_walk(data.bank, data.neighbours, data.anchor, WalkOptions(trust=0.5))
    loss = with_gradient(
        lambda query: soft_cross_entropy(query, data.bank, index, weight, None, 0.1), data.query
    )
    return index.masked_fill(weight == 0, -1), weight, *loss


def draws(data: SimpleNamespace) -> tuple[Tensor, ...]:
    """Whether draws are of the clusters asked for, with their similarities."""
    own = data.label[data.anchor]
    positive = ops.sample_positive(data.label, own, data.anchor)
    known, row = ops.sample_negatives('semi_hard', data.query, data.bank, data.label, own, 20, 0.5)
    error = known - (data.query.double() @ data.bank.double().T).gather(1, row).float()
    return (
        data.label[positive] == own,
        positive != data.anchor,
        data.label[row] != own[:, None],
        error,
    )


def sinkhorn(data: SimpleNamespace) -> Tensor:
    logits = (data.bank[:, None] * data.query).sum(dim=2)
    return ops.sinkhorn_labels(logits.log_softmax(dim=1), 10.0)[0]


def repair(data: SimpleNamespace) -> tuple[Tensor, ...]:
    label = data.label.where(data.label > 0, 1)
    centroids = ops.cluster_means(data.bank, label, data.query[:CLUSTERS])
    return ops.repair_small(data.bank, label, centroids, 20), label, centroids


OPERATIONS: dict[str, Callable[[SimpleNamespace], object]] = dict(
    search=search,
    graph=lambda data: ops.knn_graph(data.bank, 3),
    propagate=propagate,
    similarity=lambda data: with_gradient(
        lambda query: ops.bank_similarity(query, data.bank, data.index), data.query
    ),
    logsumexp=lambda data: with_gradient(
        lambda query: ops.full_logsumexp(query, data.bank, 0.1), data.query
    ),
    objective=objective,
    walk=walk,
    margin=lambda data: with_gradient(
        lambda query: ops.margin_nce(query[:, 0], query[:, 1:], 0.1, -0.5), data.query
    ),
    self_label=lambda data: with_gradient(
        lambda query: ops.self_label_loss(query[None], data.label[None, :QUERIES]), data.query
    ),
    views=lambda data: with_gradient(
        lambda query: view_contrast_loss(query.unflatten(0, (3, -1)), 0.1), data.query
    ),
    draws=draws,
    sinkhorn=sinkhorn,
    kmeans=lambda data: ops.kmeans(data.bank, CLUSTERS, backend='torch'),
    assign=lambda data: ops.assign(data.bank.float(), data.query),
    sizes=lambda data: ops.cluster_sizes(data.label, CLUSTERS),
    repair=repair,
)


@contextmanager
def mode(name: str) -> Iterator[None]:
    """Autocast to a type, deterministic algorithms, or neither."""
    if name in ('float16', 'bfloat16'):
        with torch.autocast(DEVICE, dtype=getattr(torch, name)):
            yield
        return
    torch.use_deterministic_algorithms(name == 'deterministic')
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize(
    'name', [pytest.param('plain', marks=needs_gpu), 'float16', 'bfloat16', 'deterministic']
)
@pytest.mark.parametrize('operation', OPERATIONS)
def test_an_operation_gives_what_it_gives_on_the_cpu(operation, name, dtype, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # For deterministic algorithms.
    expected = OPERATIONS[operation](problem('cpu', dtype))
    with mode(name):
        found = OPERATIONS[operation](problem(DEVICE, dtype))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, check_device=False)


def usable(backend: str, device: str) -> str:
    if backend == 'triton' and (
        reason := self_test.unsupported_reason(torch.ones(1, 1).to(device))
    ):
        pytest.skip(reason)
    return backend


@needs_gpu
@pytest.mark.parametrize('backend', ['torch', 'triton'])
def test_a_bank_of_more_than_2_31_numbers(backend):
    """In float16 it takes 4 GiB, and its similarities with the queries 0.3 GiB."""
    usable(backend, DEVICE)
    rows, dim = 2**24 + 77, 128
    generator = torch.Generator(DEVICE).manual_seed(0)
    bank = torch.empty(rows, dim, dtype=torch.float16, device=DEVICE)
    for block in bank.split(2**21):
        block.normal_(generator=generator)
    bank *= dim**-0.5
    anchor = torch.tensor([0, 2**23, rows - 70, rows - 1], device=DEVICE)
    query = bank[anchor].float()
    found = ops.top_m(query, bank, 100, backend=backend)
    every = torch.cat([query @ block.float().T for block in bank.split(2**21)], dim=1)
    torch.testing.assert_close(found.similarity, every.topk(100).values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.similarity, every.gather(1, found.index), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.index[:, 0], anchor)
    total, grad = with_gradient(
        lambda query: ops.bank_similarity(query, bank, found.index).sum(dim=1), query
    )
    weight = torch.linspace(1, 2, len(query), device=DEVICE)[:, None]
    torch.testing.assert_close(total, every.gather(1, found.index).sum(dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        grad, weight * bank[found.index].float().sum(dim=1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='no second GPU')
@pytest.mark.parametrize('operation', OPERATIONS)
def test_an_operation_on_the_second_gpu(operation):
    expected = OPERATIONS[operation](problem('cpu'))
    found = OPERATIONS[operation](problem('cuda:1'))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, check_device=False)
    tensors = found if isinstance(found, tuple) else (found,)
    assert {str(one.device) for one in tensors} == {'cuda:1'}


@needs_gpu
@pytest.mark.parametrize('backend', ['torch', 'triton'])
def test_a_search_on_another_stream(backend):
    data, stream = problem(DEVICE), torch.cuda.Stream()
    expected = ops.top_m(data.query, data.bank, 9, backend=usable(backend, DEVICE))
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = ops.top_m(data.query, data.bank, 9, backend=backend)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(found, expected)
