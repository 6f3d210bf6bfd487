"""The registered memories, filled and empty, for tests of what they share."""

import pytest
import torch

from mmselfsup_invp.models.memories import (
    ClusterMemory,
    KeyQueue,
    ODCClusterMemory,
    PropagationMemory,
    PropagationQueue,
)

from .. import toy

DIM, LENGTH = 6, 24


def neighbours_of(count, seed=0):
    return torch.randint(LENGTH, (count, 2), generator=torch.Generator().manual_seed(seed))


def enter(memory, seed):
    """Let a batch of three images enter."""
    sample_idx, feature = torch.tensor([3, 20, 3]), toy.rows(3, DIM, seed)
    batch = () if isinstance(memory, (ClusterMemory, KeyQueue)) else (neighbours_of(3, seed),)
    anchor = memory.insert(feature, sample_idx) if memory_inserts(memory) else sample_idx
    memory.stage(anchor, feature, *batch)
    memory.commit()


def memory_inserts(memory):
    return isinstance(memory, PropagationQueue)


def propagation(**options):
    return PropagationMemory(num_neighbours=2, feat_dim=DIM, **options)


def clusters(**options):
    return ClusterMemory(num_clusters=4, feat_dim=DIM, **options)


def clustered(**options):
    memory = clusters(length=LENGTH, **options)
    memory.cluster(toy.rows(LENGTH, DIM, seed=1))
    return memory


def odc():
    memory = ODCClusterMemory(num_classes=4, feat_dim=DIM, length=LENGTH)
    memory.cluster(toy.rows(LENGTH, DIM, seed=1))
    return memory


# A filled memory and one that a checkpoint is loaded into.
MEMORIES = dict(
    bank=(lambda: propagation(length=LENGTH), propagation),
    delayed=(
        lambda: propagation(length=LENGTH, update='epoch'),
        lambda: propagation(update='epoch'),
    ),
    half=(
        lambda: propagation(length=LENGTH, dtype='float16'),
        lambda: propagation(dtype='float16'),
    ),
    queue=(
        lambda: PropagationQueue(LENGTH, 2, feat_dim=DIM),
        lambda: PropagationQueue(LENGTH, 2, feat_dim=DIM, seed=1),
    ),
    clusters=(clustered, clusters),
    equal=(lambda: clustered(assigner='equal'), lambda: clusters(assigner='equal')),
    odc=(odc, lambda: ODCClusterMemory(num_classes=4, feat_dim=DIM)),
    keys=(
        lambda: KeyQueue(length=LENGTH, feat_dim=DIM),
        lambda: KeyQueue(length=LENGTH, feat_dim=DIM, seed=1),
    ),
)
every_memory = pytest.mark.parametrize('name', MEMORIES)


def assert_same(memory, other):
    state, others = memory.state_dict(), other.state_dict()
    assert state.keys() == others.keys()
    for name, value in state.items():
        assert torch.equal(value, others[name]), name
