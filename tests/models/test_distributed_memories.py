"""Two processes: the batches of both enter, in the order of the ranks, the same on both."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import distributed

from mmselfsup_invp.memory import NonFiniteFeatures
from mmselfsup_invp.models import (
    ClusterMemory,
    KeyQueue,
    PropagationMemory,
    PropagationQueue,
    SelfLabelMemory,
)

from .. import toy
from ..engine.processes import run_ranks

DIM, LENGTH = 4, 12
# Image 5 is in the batch of both ranks.
IDS = [torch.tensor([5, 2, 9]), torch.tensor([7, 5, 0])]
KEYS = [toy.rows(3, DIM, seed=1), toy.rows(3, DIM, seed=2)]
LINKS = [torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([[6, 5], [4, 3], [2, 1]])]


def batch():
    rank = distributed.get_rank()
    return IDS[rank], KEYS[rank], LINKS[rank]


def bank():
    memory = PropagationMemory(length=LENGTH, feat_dim=DIM, num_neighbours=2)
    memory.stage(*batch())
    memory.commit()
    return memory, {}


def keyed_bank():
    memory = PropagationMemory(length=LENGTH, feat_dim=DIM, num_neighbours=2)
    ids, key, _ = batch()
    return memory, dict(anchor=memory.insert(key, ids))


def queue():
    memory = PropagationQueue(length=LENGTH, feat_dim=DIM, num_neighbours=2)
    ids, key, links = batch()
    anchor = memory.insert(key, ids)
    memory.stage(anchor, key, links)
    return memory, dict(anchor=anchor)


def keys():
    memory = KeyQueue(length=LENGTH, feat_dim=DIM)
    memory.stage(*batch()[:2])
    memory.commit()
    return memory, {}


def clusters():
    memory = ClusterMemory(num_clusters=3, feat_dim=DIM, length=LENGTH)
    # Rank 0 clusters for both, whatever the features of the other.
    memory.cluster(toy.rows(LENGTH, DIM, seed=distributed.get_rank()), keep_bank=True)
    clustered = memory.labels.clone()
    memory.stage(*batch()[:2])
    memory.commit()
    memory.update_centroids()
    # Small by the labels of the second rank alone.
    memory.labels.copy_(torch.arange(LENGTH) % 3)
    if distributed.get_rank():
        memory.labels[memory.labels == 2] = 0
    return memory, dict(clustered=clustered, repaired=memory.repair())


def monitored():
    """A feature of image 7 that is not finite, in the batch of the second rank alone."""
    memory = SelfLabelMemory(3, 1, length=LENGTH)
    memory.monitor.iteration = 4
    ids, feature, _ = batch()
    memory.monitor.watch(ids, feature.masked_fill(ids[:, None] == 7, torch.nan))
    try:
        memory.monitor.check()
    except NonFiniteFeatures as error:
        return memory, dict(error=str(error))
    return memory, dict(error='')


SCENARIOS = dict(
    bank=bank,
    keyed_bank=keyed_bank,
    queue=queue,
    keys=keys,
    clusters=clusters,
    monitored=monitored,
)


def scenarios(folder: Path) -> dict:
    found = {}
    for name, scenario in SCENARIOS.items():
        memory, values = scenario()
        found[name] = dict(state=memory.state_dict(), **values)
    return found


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return run_ranks(scenarios, tmp_path_factory.mktemp('ranks'))


def initial(kind=PropagationMemory, **options):
    return kind(length=LENGTH, feat_dim=DIM, **options).bank


def averaged():
    """Rows after both batches; of image 5 the feature of the first rank counts."""
    rows = initial()
    for ids, key in reversed(list(zip(IDS, KEYS, strict=True))):
        rows[ids] = F.normalize(initial()[ids] + key)
    return rows


@pytest.mark.parametrize('name', SCENARIOS)
def test_the_state_is_the_same_on_both_ranks(ranks, name):
    first, second = (rank[name]['state'] for rank in ranks)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_both_ranks_stop_at_a_feature_that_one_of_them_has(ranks):
    for rank in ranks:
        assert r'iteration 4, first for the samples [7]' in rank['monitored']['error']


@pytest.mark.parametrize('name', ['bank', 'keyed_bank', 'clusters'])
def test_rows_are_written_from_both(ranks, name):
    torch.testing.assert_close(ranks[0][name]['state']['bank'], averaged())


def test_neighbours_are_written_from_both(ranks):
    expected = torch.full((LENGTH, 2), -1)
    for ids, links in reversed(list(zip(IDS, LINKS, strict=True))):
        expected[ids] = links
    assert torch.equal(ranks[0]['bank']['state']['neighbours'], expected)


def test_anchors_of_a_bank_are_the_ids_of_the_rank(ranks):
    for rank, ids in zip(ranks, IDS, strict=True):
        assert torch.equal(rank['keyed_bank']['anchor'], ids)


def test_anchors_of_a_queue_are_the_slots_of_the_rank(ranks):
    assert [rank['queue']['anchor'].tolist() for rank in ranks] == [[0, 1, 2], [3, 4, 5]]
    state = ranks[0]['queue']['state']
    assert torch.equal(state['bank'][:6], torch.cat(KEYS)) and state['pointer'] == 6
    assert torch.equal(state['neighbours'][:6], torch.cat(LINKS))


def test_keys_are_queued_from_both(ranks):
    state = ranks[0]['keys']['state']
    assert torch.equal(state['bank'][:6], torch.cat(KEYS)) and state['pointer'] == 6


def test_the_first_rank_clusters_for_both(ranks):
    single = ClusterMemory(num_clusters=3, feat_dim=DIM, length=LENGTH)
    single.cluster(toy.rows(LENGTH, DIM, seed=0))
    for rank in ranks:
        assert torch.equal(rank['clusters']['clustered'], single.labels)


def test_a_repair_ends_alike_though_only_one_rank_found_something(ranks):
    first, second = (rank['clusters'] for rank in ranks)
    assert (first['repaired'], second['repaired']) == (0, 1)
    assert first['state']['labels'].tolist() == [0, 1, 2] * 4
