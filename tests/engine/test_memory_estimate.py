"""The estimate against the tensors that a model and its step really allocate."""

import io

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mmselfsup_invp.engine import memory_estimate
from mmselfsup_invp.engine.memory_estimate import (
    CGROUPS,
    GIB,
    MIB,
    MemoryEstimate,
    _free_bytes,
    available_memory,
    estimate_memory,
    search_bytes,
    size,
)
from mmselfsup_invp.models.memories import memories_of

from .. import toy

N, B = 3000, 64


def measured(model):
    """Bytes of the rows of all memories after they were fitted."""
    for memory in memories_of(model):
        memory.fit(N)
    parts = (part for memory in memories_of(model) for _, part in memory.parts())
    names = ((part, name) for part in parts for name in part._row_names)
    return sum(getattr(part, name).nbytes for part, name in names)


@pytest.mark.parametrize(
    'config',
    [
        toy.model_config(),
        toy.model_config(memory=dict(dtype='float16', update='epoch')),
        toy.model_config('MomentumInvP', memory=dict(length=500)),
        toy.interclr_config(),
        toy.interclr_config('MomentumInterCLR'),
        toy.sela_config(),
    ],
)
def test_memories_are_exact(config):
    model = toy.build_model(config)
    parts = estimate_memory(model, N, B).parts
    estimated = sum(parts.get(name, 0) for name in ('bank', 'graph', 'labels'))
    assert estimated == measured(model) > 0


def test_the_bank_and_the_graph_follow_the_formulas():
    parts = estimate_memory(toy.build_model(toy.model_config()), N, B).parts
    assert parts['bank'] == 4 * N * toy.DIM and parts['graph'] == 8 * N * 2


def test_the_network_is_that_of_a_step_of_sgd():
    model = toy.build_model(toy.model_config('MomentumInvP', memory=dict(length=500)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    held = [*model.parameters(), *(one.grad for one in model.parameters() if one.grad is not None)]
    held += [state['momentum_buffer'] for state in optimizer.state.values()]
    estimate = estimate_memory(model, N, B)
    assert estimate.parts['network'] == sum(one.nbytes for one in held)


@pytest.mark.parametrize('num_background', [500, 2000])
@pytest.mark.parametrize('head', ['InvPHead', 'SoftInvPHead'])
def test_the_search_is_within_a_factor_of_two(head, num_background):
    config = toy.model_config()
    if head == 'InvPHead':
        config['head']['loss']['num_background'] = num_background
    else:
        config |= dict(
            type='SoftInvP', head=dict(type=head, num_background=num_background, propagation=0)
        )
    model = toy.build_model(config)
    model.memory.fit(N)
    model.memory.bank.copy_(toy.rows(N))
    model.memory.rebuild_graph()
    model.head.ramp = 0.0
    query = toy.rows(B, seed=1).requires_grad_()
    peak = peak_bytes(lambda: step(model, query))
    estimated = estimate_memory(model, N, B).parts['search']
    assert estimated / 2 < peak < estimated * 2


def step(model, query):
    losses = model.head(query, torch.arange(B), model.memory)
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()


def peak_bytes(function):
    """Highest sum of the tensors that a function allocates, on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    events = [one for one in record.profiler.kineto_results.events() if one.name() == '[memory]']
    total = peak = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


@pytest.mark.parametrize(
    ('config', 'width', 'each'),
    [
        (toy.model_config(), 10 + 1, 24),
        (toy.interclr_config(), 8 + 1, 24),
        (dict(num_background=9, num_target=20), 20 + 1, 48),
        (dict(num_background=30, num_target=20), 30 + 1, 48),
        (dict(num_background=1, num_target=1), 2 + 1, 48),  # two neighbours
    ],
)
def test_the_search_follows_the_formulas(config, width, each):
    """The similarities of a batch with all images, and what is kept of its background."""
    if 'type' not in config:
        head = dict(type='SoftInvPHead', propagation=0, **config)
        config = toy.model_config() | dict(type='SoftInvP', head=head)
    model = toy.build_model(config)
    assert search_bytes(model, 1000, B) == (4 * 1000 + each * width) * B
    few = width - 1
    assert search_bytes(model, few, B) == (4 + each) * few * B
    # More similarities than are held at a time.
    assert search_bytes(model, 10**6, B) == 4 * 2**21 + each * width * B


def test_sinkhorn_depends_on_what_is_stored():
    model = toy.build_model(toy.sela_config())
    found = [
        estimate_memory(model, N, B, storage).parts.get('Sinkhorn', 0)
        for storage in ('log_prob', 'features', 'host')
    ]
    assert found == [4 * N * (16 + 3), 4 * N * 16, 0]


def test_a_run_that_does_not_fit_is_refused_with_what_helps_most():
    estimate = MemoryEstimate(dict(graph=GIB, labels=4 * GIB, bank=3 * GIB, network=2 * GIB))
    estimate.require(10 * GIB)
    with pytest.raises(ValueError, match='needs graph 1.0 GiB .* are free') as raised:
        estimate.require(10 * GIB - 1)
    first, second, third = ('a bank of 16 bits', 'a smaller network', 'fewer neighbours')
    assert f'in this order: {first}' in str(raised.value)
    assert str(raised.value).index(second) < str(raised.value).index(third)
    assert estimate.without('bank').total == 7 * GIB


def test_sizes_are_in_words():
    assert [size(num) for num in (3 * MIB // 2, GIB - 1, GIB, 5 * GIB // 2)] == [
        '1.5 MiB',
        '1024.0 MiB',
        '1.0 GiB',
        '2.5 GiB',
    ]


def test_free_memory():
    free = available_memory('cpu')
    assert 2**20 < free <= max(_free_bytes())


@pytest.mark.parametrize('names', CGROUPS)
def test_free_memory_of_a_container(names, tmp_path, monkeypatch):
    """The file cache is free too; a container without a limit has the memory of the machine."""
    limit, used, statistics, cache = names
    monkeypatch.setattr(memory_estimate, 'CGROUP', tmp_path)
    meminfo = 'MemTotal: 900 kB\nMemAvailable:     70 kB\n'
    monkeypatch.setattr(memory_estimate, 'open', lambda _: io.StringIO(meminfo), raising=False)
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / limit).write_text('max\n')
    (tmp_path / used).write_text('60000\n')
    (tmp_path / statistics).write_text(f'anon 5\n{cache} 9000\nother 7\n')
    assert list(_free_bytes()) == [70 * 1024] and available_memory('cpu') == 70 * 1024
    (tmp_path / limit).write_text('100000\n')
    assert list(_free_bytes()) == [70 * 1024, 49000] and available_memory('cpu') == 49000
