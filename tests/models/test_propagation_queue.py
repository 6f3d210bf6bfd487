import math

import pytest
import torch

from mmselfsup_invp.memory import NonFiniteFeatures
from mmselfsup_invp.models import KeyQueue, PropagationQueue
from mmselfsup_invp.ops.graph import nearest_others

from .. import toy


def queue_of(length=10, k=2, dim=4, **options):
    return PropagationQueue(length=length, num_neighbours=k, feat_dim=dim, **options)


def insert(queue, count, seed=0, start=0):
    """Insert random keys of images numbered from ``start``."""
    key = toy.rows(count, 4, seed)
    return key, queue.insert(key, torch.arange(start, start + count))


def test_moco_is_the_default():
    for queue in (PropagationQueue(), KeyQueue()):
        assert queue.bank.shape == (65536, 128) and queue.pointer == 0
    assert PropagationQueue().num_neighbours == 4


class TestKeys:
    @pytest.mark.parametrize('counts', [(4, 4, 4), (7, 6), (3, 10)])
    def test_anchors_are_the_slots_of_the_keys(self, counts):
        queue, pointer = queue_of(), 0
        for seed, count in enumerate(counts):
            key, anchor = insert(queue, count, seed)
            assert anchor.tolist() == [(pointer + i) % 10 for i in range(count)]
            assert torch.equal(queue.bank[anchor], key)
            pointer = (pointer + count) % 10
            assert queue.pointer == pointer

    def test_a_longer_batch_is_refused(self):
        with pytest.raises(ValueError, match='batch of 11 .* queue of 10: lower .*batch_size'):
            insert(queue_of(), 11)

    def test_the_algorithm_need_not_say_that_keys_are_the_rows(self):
        assert PropagationQueue.rows_from_keys


class TestGraph:
    @pytest.mark.parametrize('query_seed', [0, 1])
    def test_anchors_are_linked_at_once_and_keep_their_keys(self, query_seed):
        queue = queue_of()
        key, anchor = insert(queue, 2)
        queue.stage(anchor, toy.rows(2, 4, query_seed), torch.tensor([[3, 4], [0, 5]]))
        assert queue.neighbours[:3].tolist() == [[3, 4], [0, 5], [-1, -1]]
        assert torch.equal(queue.bank[anchor], key) and queue.staged is None
        before = {name: value.clone() for name, value in queue.state_dict().items()}
        queue.commit()
        queue.end_epoch()
        assert all(torch.equal(before[name], value) for name, value in queue.state_dict().items())

    def test_edges_of_and_to_overwritten_slots_are_removed(self):
        queue = queue_of()
        queue.neighbours.copy_(torch.arange(20).reshape(10, 2) % 10)
        insert(queue, 2)
        assert queue.neighbours[:2].tolist() == [[-1, -1]] * 2
        assert queue.neighbours[5].tolist() == [-1, -1]  # To slots 0 and 1.
        assert queue.neighbours[6].tolist() == [2, 3]

    def test_no_edge_ever_leads_to_a_newer_key(self):
        """Over many steps an edge points to the key it was made for."""
        queue = queue_of(length=20, k=3)
        birth = torch.full((20,), -1)
        made_for = torch.full((20, 3), -1)
        for step in range(30):
            key, anchor = insert(queue, 6, seed=step)
            birth[anchor] = step
            found = nearest_others(queue.search(key, 4), anchor, 3)
            queue.stage(anchor, key, found)
            made_for[anchor] = birth[found]
            edge = queue.neighbours >= 0
            assert edge[anchor].all()
            assert torch.equal(birth[queue.neighbours[edge]], made_for[edge])

    def test_the_graph_can_be_left_alone(self):
        queue = queue_of()
        queue.refresh = False
        key, anchor = insert(queue, 3)
        queue.stage(anchor, key, torch.tensor([[5, 6]] * 3))
        assert (queue.neighbours[:3] == -1).all()


class TestNonFinite:
    @pytest.mark.parametrize('bad', [math.nan, math.inf])
    def test_bad_keys_stay_out(self, bad):
        queue = queue_of()
        queue.monitor.iteration = 5
        before = queue.bank.clone()
        key = toy.rows(3, 4)
        key[1, 0] = bad
        queue.insert(key, torch.tensor([40, 41, 42]))
        assert torch.equal(queue.bank[[0, 2]], key[[0, 2]])
        assert torch.equal(queue.bank[1], before[1])
        with pytest.raises(NonFiniteFeatures, match=r'iteration 5, .* samples \[41\]'):
            queue.monitor.check()

    def test_bad_queries_stay_out_of_the_graph(self):
        """The neighbours that a search gives for NaN mean nothing."""
        queue = queue_of()
        queue.monitor.iteration = 6
        key = toy.rows(3, 4)
        anchor = queue.insert(key, torch.tensor([40, 41, 42]))
        query = key.clone()
        query[1] = math.nan
        queue.stage(anchor, query, torch.tensor([[5, 6], [5, 6], [5, 6]]))
        assert queue.neighbours[:3].tolist() == [[5, 6], [-1, -1], [5, 6]]
        with pytest.raises(NonFiniteFeatures, match=r'iteration 6, .* samples \[41\]'):
            queue.monitor.check()


class TestKeyQueue:
    def test_keys_replace_the_oldest_when_they_are_committed(self):
        queue = KeyQueue(length=5, feat_dim=3)
        bank = queue.bank.clone()
        for step in range(4):
            key = toy.rows(2, 3, seed=step)
            queue.stage(torch.tensor([0, 1]), key)
            assert torch.equal(queue.bank, bank), 'backward still reads the queue'
            queue.commit()
            for place in range(2):
                bank[(2 * step + place) % 5] = key[place]
            assert torch.equal(queue.bank, bank)
        assert queue.pointer == 3

    def test_a_batch_longer_than_the_queue_is_refused(self):
        queue = KeyQueue(length=3, feat_dim=3)
        queue.stage(torch.arange(4), toy.rows(4, 3))
        with pytest.raises(ValueError, match='batch of 4 .* queue of 3'):
            queue.commit()
