"""Rows that are split over processes give what the same rows in one process give."""

from pathlib import Path

import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.memory import FeatureBank, KNNGraph, whole_state
from mmselfsup_invp.memory.initial import SEED_STEP, initial_rows
from mmselfsup_invp.memory.sharding import ShardedRows, Split
from mmselfsup_invp.ops import collectives
from mmselfsup_invp.ops.search.request import Request

from ..engine.processes import run_ranks
from .tools import rows

DIM, QUERIES = 4, 3
# One process has a row more than the other.
LENGTHS = [10, 11]
STATE = dict(bank=lambda **options: FeatureBank(DIM, **options), graph=lambda **o: KNNGraph(2, **o))


def test_a_split_covers_all_rows_once_and_evenly():
    for length in range(3, 20):
        splits = [Split(length, rank, 3) for rank in range(3)]
        held = [list(range(one.start, one.stop)) for one in splits]
        assert sum(held, []) == list(range(length))
        sizes = [len(part) for part in held]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) == splits[0].width
        for split, part in zip(splits, held, strict=True):
            place, own = split.local(torch.arange(length))
            assert own.nonzero().squeeze(1).tolist() == part
            assert place[own].tolist() == list(range(len(part)))
            assert place.min() >= 0 and place.max() < len(part)


def test_rows_in_host_memory_travel_between_devices(monkeypatch):
    """NCCL has no way to send a tensor of the host."""
    sent = []

    def gather(part):
        sent.append(part.device)
        return torch.zeros(2 * len(part), *part.shape[1:])

    monkeypatch.setattr('mmselfsup_invp.memory.sharding.gather', gather)
    bank = FeatureBank(DIM, 4, offload=True)
    bank.split = Split(4, 0, 2)
    bank.bank = bank.bank[:2]
    bank._moved = bank._moved.to('meta')  # Stands for the GPU that the model was moved to.
    assert bank.whole('bank').shape == (4, DIM)
    bank.collect()
    assert bank.collected['bank'].shape == (4, DIM)
    assert [device.type for device in sent] == ['meta', 'meta']


def test_a_part_of_the_initial_rows_is_that_of_all(monkeypatch):
    whole = initial_rows(70, DIM, seed=3)
    monkeypatch.setattr('mmselfsup_invp.memory.initial.BLOCK_ROWS', 16)
    blocks = initial_rows(70, DIM, seed=3)
    assert torch.equal(blocks[:16], whole[:16])
    for block, part in enumerate(blocks.split(16)):  # Each with a seed of its own.
        expected = initial_rows(len(part), DIM, seed=(3 + block * SEED_STEP) % 2**32)
        assert torch.equal(part, expected)
    for part in (slice(0, 70), slice(10, 40), slice(16, 32), slice(69, 70)):
        assert torch.equal(initial_rows(70, DIM, seed=3, part=part), blocks[part])


@pytest.mark.parametrize('start', [2**20, 2**31, 2**32])
def test_row_numbers_have_the_bits_that_they_need(start):
    query, held = rows(3, DIM, seed=1), rows(8, DIM)
    split = Split(2 * start, 1, 2)
    found = ShardedRows(held, split).search(Request(query, held, 5), 'torch')
    assert split.start == start
    assert torch.equal(found.index.sort()[0], ops.top_m(query, held, 5).index.sort()[0] + start)


def test_one_process_holds_all_rows():
    bank = FeatureBank(DIM, 10, shard=True)
    assert bank.split is None and bank.view('bank') is bank.bank
    assert torch.equal(bank.bank, FeatureBank(DIM, 10).bank)


def batch(length: int, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch of all processes with repeats and a row that is not finite."""
    generator = torch.Generator().manual_seed(step)
    index = torch.randint(length, (2 * QUERIES,), generator=generator)
    links = torch.randint(length, (2 * QUERIES, 2), generator=generator)
    feature = rows(2 * QUERIES, DIM, seed=step)
    feature[step % len(feature)] = torch.nan
    return index, feature, links


def values(length: int, shard: bool, offload: bool = False) -> dict:
    """Everything that a bank and a graph give, for the queries of this process."""
    bank = FeatureBank(DIM, length, shard=shard, offload=offload, chunk_rows=2, delayed=True)
    graph = KNNGraph(2, length, shard)
    graph.rebuild(bank.view('bank'))
    for step in range(4):
        index, feature, links = batch(length, step)
        bank.update(index, feature)
        graph.link(index, links, feature.isfinite().all(dim=1))
        bank.end_epoch()
    every = torch.arange(2 * QUERIES)
    mine = every.view(2, -1)[collectives.rank()] if collectives.world_size() > 1 else every
    query = rows(2 * QUERIES, DIM, seed=9)[mine].requires_grad_()
    anchor = (3 * every % length)[mine]
    found = dict(length=len(bank), churn=graph.churn(), mutual=graph.mutual_share())
    return dict(common=found | shared(bank, graph, length), own=answers(bank, graph, query, anchor))


def shared(bank: FeatureBank, graph: KNNGraph, length: int) -> dict:
    label = torch.arange(length) % 3
    index = torch.tensor([length - 1, 0, 4, 4])
    return dict(
        bank=bank.whole('bank'),
        neighbours=graph.whole('neighbours'),
        common=bank.common_rows(index),
        means=ops.cluster_means(bank.view('bank'), label, torch.zeros(4, DIM)),
    )


def answers(bank: FeatureBank, graph: KNNGraph, query, anchor) -> dict:
    view, length = bank.view('bank'), len(bank)
    label = torch.arange(length) % 3
    labels = ops.top_m(query, view, 5, labels=(label[anchor], label))
    few = ops.top_m(query, view, 2, exclude=anchor)
    most = ops.top_m(query, view, length - 1, exclude=anchor)
    similarity = ops.bank_similarity(query, view, most.index[:, :4])
    total = ops.full_logsumexp(query, view, 0.2)
    known = ops.bank_similarity(query, view, few.index, few.similarity)
    loss = similarity.exp().sum() + 2 * total.sum() + 3 * known.square().sum()
    return dict(
        few=few.index,
        most=most.index,
        most_similarity=most.similarity,
        other=labels.similarity,
        similarity=similarity.detach(),
        total=total.detach(),
        gradient=torch.autograd.grad(loss, query)[0],
        rows=view[torch.stack([anchor, anchor + 1], dim=1) % length],
        positives=graph.propagate(anchor, hops=2)[0],
        mutual=graph.propagate(anchor, hops=2, edges='mutual')[1],
    )


def states(folder: Path, length: int) -> dict:
    """Checkpoints written by two processes, and states loaded into them from one."""
    saved, loaded = {}, {}
    for name, build in STATE.items():
        split, alone = build(length=length, shard=True), build(length=length)
        fill(alone, length)
        for empty in (0, length):
            other = build(length=empty, shard=True)
            other.load_state_dict(alone.state_dict())
            loaded[name, empty] = other.whole(*alone.state_dict())
        split.load_state_dict(alone.state_dict())
        partial = split.state_dict()
        with whole_state(split):
            saved[name] = dict(split.state_dict())
        assert partial.keys() == saved[name].keys() == split.state_dict().keys()
        assert all(len(value) == 0 for value in split.state_dict().values())
    return dict(saved=saved, loaded=loaded)


def fill(module: FeatureBank | KNNGraph, length: int) -> None:
    for step in range(2):
        index, feature, links = batch(length, step)
        module.update(index, feature) if isinstance(module, FeatureBank) else module.link(
            index, links
        )


def scenarios(folder: Path) -> dict:
    found = {}
    for length in LENGTHS:
        found[length] = values(length, shard=True)
        found[length, 'offload'] = values(length, shard=True, offload=True)
        found[length, 'states'] = states(folder, length)
    try:
        FeatureBank(DIM, 1, shard=True)
    except ValueError as error:
        found['error'] = str(error)
    return found


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return run_ranks(scenarios, tmp_path_factory.mktemp('ranks'))


@pytest.mark.slow  # Two processes are started.
@pytest.mark.parametrize('length', LENGTHS)
@pytest.mark.parametrize('offload', [False, True])
def test_values_are_those_of_one_process(ranks, length, offload):
    single = values(length, shard=False)
    for rank, found in enumerate(ranks):
        found = found[(length, 'offload') if offload else length]
        for name, expected in single['common'].items():
            torch.testing.assert_close(found['common'][name], expected, msg=name)
        mine = slice(rank * QUERIES, (rank + 1) * QUERIES)
        for name, expected in single['own'].items():
            torch.testing.assert_close(found['own'][name], expected[mine], msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('length', LENGTHS)
@pytest.mark.parametrize('name', STATE)
def test_a_checkpoint_is_whole_and_loads_into_any_number_of_processes(ranks, length, name):
    alone = STATE[name](length=length)
    fill(alone, length)
    (expected,) = alone.state_dict().values()
    for found in ranks:
        for empty in (0, length):
            assert torch.equal(found[length, 'states']['loaded'][name, empty], expected)
    written = ranks[0][length, 'states']['saved'][name]
    again = STATE[name](length=0)
    again.load_state_dict(written)
    assert torch.equal(*(one.state_dict()[key] for one in (again, alone) for key in written))
    # The other process holds no copy.
    (rest,) = ranks[1][length, 'states']['saved'][name].values()
    assert len(rest) == 0


@pytest.mark.slow
def test_there_must_be_a_row_for_each_process(ranks):
    assert '1 rows cannot be split over 2 processes' in ranks[0]['error']
