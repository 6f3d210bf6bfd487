"""A bank in host memory gives what the same bank on the device gives."""

import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.memory import FeatureBank
from mmselfsup_invp.ops.host_rows import HostRows

from .tools import unit_rows

ROWS, DIM = 50, 8
DEVICES = ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]
# Chunks shorter and longer than the result, and one of all rows.
CHUNKS = [3, 7, ROWS]


@pytest.fixture(params=CHUNKS, ids='chunk{}'.format)
def pair(request):
    """The bank as a tensor and as rows in host memory."""
    bank = unit_rows(ROWS, DIM, seed=0)
    return bank, HostRows(bank, request.param, torch.device('cpu'))


@pytest.fixture
def query():
    return unit_rows(5, DIM, seed=1).requires_grad_()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('exclude', [None, torch.tensor([4, 4, 20, 49, 0])])
@pytest.mark.parametrize('m', [1, 6, ROWS - 1])
@pytest.mark.parametrize('labelled', [False, True])
def test_a_search_equals_that_of_a_tensor(pair, query, device, exclude, m, labelled):
    bank, rows = pair
    rows = HostRows(rows.rows, rows.chunk_rows, torch.device(device))
    query, bank = query.detach().to(device), bank.to(device)
    exclude = exclude if exclude is None else exclude.to(device)
    labels = (torch.arange(5, device=device) % 3, torch.arange(ROWS, device=device) % 3)
    options = dict(exclude=exclude, labels=labels if labelled else None)
    found, expected = (ops.top_m(query, one, m, **options) for one in (rows, bank))
    torch.testing.assert_close(found.similarity, expected.similarity)
    # Where there are too few candidates, the rest of the rows is arbitrary.
    finite = expected.similarity.isfinite()
    assert torch.equal(found.index[finite], expected.index[finite])


@pytest.mark.parametrize('backend', ['torch', 'auto'])
def test_every_backend_searches_the_chunks(pair, query, backend):
    bank, rows = pair
    found = ops.top_m(query, rows, 6, backend=backend)
    assert torch.equal(found.index, ops.top_m(query, bank, 6, backend='torch').index)


def gradient(function, query):
    """The value, and the gradient with a weight of its own for every entry."""
    value = function()
    weight = torch.linspace(1, 2, value.numel()).view_as(value)
    (grad,) = torch.autograd.grad((value * weight).sum(), query)
    return value, grad


@pytest.mark.parametrize('known', [False, True])
def test_similarities_and_their_gradient(pair, query, known):
    bank, rows = pair
    index = torch.randint(ROWS, (5, 9))
    similarity = (query.detach() @ bank.T).gather(1, index) if known else None
    found, expected = (
        gradient(lambda one=one: ops.bank_similarity(query, one, index, similarity), query)
        for one in (rows, bank)
    )
    torch.testing.assert_close(found, expected)


def test_the_sum_over_all_rows_and_its_gradient(pair, query):
    bank, rows = pair
    found, expected = (
        gradient(lambda one=one: ops.full_logsumexp(query, one, 0.1), query) for one in (rows, bank)
    )
    torch.testing.assert_close(found, expected)
    exact = (query.detach().double() @ bank.T.double() / 0.1).logsumexp(dim=1)
    torch.testing.assert_close(found[0].double(), exact, atol=1e-5, rtol=0)


def test_rows_graph_and_means(pair):
    bank, rows = pair
    index = torch.tensor([[3, 49], [0, 3]])
    assert torch.equal(rows[index], bank[index])
    assert torch.equal(ops.knn_graph(rows, 3), ops.knn_graph(bank, 3))
    label, old = torch.arange(ROWS) % 4, torch.zeros(5, DIM)
    means = ops.cluster_means(rows, label, old)
    torch.testing.assert_close(means, ops.cluster_means(bank, label, old))


@pytest.mark.parametrize('delayed', [False, True])
def test_an_offloaded_bank_holds_the_same_rows(delayed):
    banks = [
        FeatureBank(DIM, ROWS, delayed=delayed, offload=offload, chunk_rows=7)
        for offload in (False, True)
    ]
    for bank in banks:
        bank.update(torch.tensor([7, 2, 7]), unit_rows(3, DIM, seed=2))
        bank.end_epoch()
    assert torch.equal(banks[0].bank, banks[1].bank)
    banks[1].load_state_dict(FeatureBank(DIM, ROWS, delayed=delayed, seed=1).state_dict())
    assert torch.equal(banks[1].view('bank').rows, FeatureBank(DIM, ROWS, seed=1).bank)


def test_an_offloaded_bank_stays_where_it_is():
    """The device of the queries is that of the module; the rows do not move."""
    bank = FeatureBank(DIM, ROWS, offload=True)
    bank.to('meta')
    assert bank.bank.device.type == 'cpu' and bank.view('bank').device.type == 'meta'
    assert set(bank.state_dict()) == {'bank'}
    other = FeatureBank(DIM, ROWS).to('meta')
    assert other.bank.device.type == other.view('bank').device.type == 'meta'
