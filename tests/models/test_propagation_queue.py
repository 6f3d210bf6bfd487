import math

import pytest
import torch
from mmengine.logging import MMLogger

from mmselfsup_invp.models import PropagationQueue

from .. import toy


def queue_of(length=10, k=2, dim=4, **options):
    return PropagationQueue(length=length, num_neighbours=k, feat_dim=dim, **options)


def insert(queue, count, seed=0, start=0):
    """Queue random keys of samples numbered from ``start``."""
    key = toy.rows(count, 4, seed)
    return key, queue.insert(key, torch.arange(start, start + count))


class TestRing:
    def test_keys_replace_the_oldest(self):
        queue = queue_of()
        expected = queue.bank.clone()
        oldest = 0
        for step in range(7):  # 28 keys: almost three times round.
            key, anchor = insert(queue, 4, seed=step)
            slots = [(oldest + i) % 10 for i in range(4)]
            expected[slots] = key
            oldest = (oldest + 4) % 10
            assert anchor.tolist() == slots
            assert torch.equal(queue.bank, expected)
            assert queue.pointer == oldest

    def test_anchors_hold_the_keys_of_their_images(self):
        queue = queue_of()
        insert(queue, 7)
        key, anchor = insert(queue, 6, seed=1)  # Wraps around.
        assert torch.equal(queue.bank[anchor], key)

    def test_a_batch_may_fill_the_queue(self):
        queue = queue_of()
        insert(queue, 3)
        key, anchor = insert(queue, 10, seed=1)
        assert sorted(anchor.tolist()) == list(range(10))
        assert torch.equal(queue.bank[anchor], key)
        assert queue.pointer == 3

    def test_a_longer_batch_is_refused(self):
        with pytest.raises(ValueError, match='batch of 11 .* queue of 10: lower .*batch_size'):
            insert(queue_of(), 11)

    def test_rows_are_not_images(self):
        assert not PropagationQueue.holds_images

    def test_keys_keep_no_autograd_graph(self):
        queue = queue_of()
        queue.insert(toy.rows(2, 4).requires_grad_() * 1, torch.arange(2))
        assert not queue.bank.requires_grad


class TestGraph:
    def test_anchors_are_linked_at_once(self):
        queue = queue_of()
        key, anchor = insert(queue, 2)
        queue.stage(anchor, key, torch.tensor([[3, 4], [0, 5]]))
        assert queue.neighbours[:3].tolist() == [[3, 4], [0, 5], [-1, -1]]
        before = {name: value.clone() for name, value in queue.state_dict().items()}
        queue.commit()
        queue.end_epoch()
        assert all(torch.equal(before[name], value) for name, value in queue.state_dict().items())

    def test_edges_of_and_to_overwritten_slots_go(self):
        queue = queue_of(k=3)
        queue.neighbours.copy_(torch.arange(30).reshape(10, 3) * 7 % 10)
        queue.pointer.fill_(8)
        expected = queue.neighbours.tolist()
        _, anchor = insert(queue, 4)
        gone = {8, 9, 0, 1}
        assert set(anchor.tolist()) == gone
        for row in range(10):
            for column in range(3):
                if row in gone or expected[row][column] in gone:
                    expected[row][column] = -1
        assert queue.neighbours.tolist() == expected
        assert any(-1 in row and row != [-1] * 3 for row in expected)  # Some rows lose a part.

    def test_no_edge_ever_leads_to_a_newer_key(self):
        """Over many steps: what an edge points to is what it was made for."""
        queue = queue_of(length=20, k=3)
        birth = torch.full((20,), -1)
        made_for = torch.full((20, 3), -1)
        for step in range(30):
            key, anchor = insert(queue, 6, seed=step)
            birth[anchor] = step
            found = queue.nearest_others(queue.search(key, 4), anchor)
            queue.stage(anchor, key, found)
            made_for[anchor] = birth[found]
            edge = queue.neighbours >= 0
            assert edge[anchor].all()
            assert torch.equal(birth[queue.neighbours[edge]], made_for[edge])


class TestSize:
    def test_is_lowered_to_the_data_set(self, capsys):
        MMLogger.get_instance('queue')
        queue = queue_of(length=30)
        queue.fit(12)
        assert len(queue) == len(queue.neighbours) == 12
        assert 'queue of 30 is lowered to the 12 images' in capsys.readouterr().out

    def test_is_not_raised(self, capsys):
        MMLogger.get_instance('queue')
        queue = queue_of()
        bank = queue.bank.clone()
        queue.fit(5000)
        assert torch.equal(queue.bank, bank)
        assert 'lowered' not in capsys.readouterr().out

    def test_too_few_images_for_the_graph_are_refused(self):
        with pytest.raises(ValueError, match='2 rows cannot give 2 neighbours'):
            queue_of().fit(2)


class TestFaults:
    @pytest.mark.parametrize('bad', [math.nan, math.inf])
    def test_bad_keys_stay_out(self, bad):
        queue = queue_of()
        queue.iteration = 5
        before = queue.bank.clone()
        key = toy.rows(3, 4)
        key[1, 0] = bad
        queue.insert(key, torch.tensor([40, 41, 42]))
        assert torch.equal(queue.bank[[0, 2]], key[[0, 2]])
        assert torch.equal(queue.bank[1], before[1])
        assert queue.faults.tolist() == [41] + [-1] * 7
        assert queue.fault_iteration == 5

    def test_bad_queries_stay_out_of_the_graph(self):
        """The neighbours that a search gives for NaN mean nothing."""
        queue = queue_of()
        queue.iteration = 6
        key = toy.rows(3, 4)
        anchor = queue.insert(key, torch.tensor([40, 41, 42]))
        query = key.clone()
        query[1] = math.nan
        queue.stage(anchor, query, torch.tensor([[5, 6], [5, 6], [5, 6]]))
        assert queue.neighbours[:3].tolist() == [[5, 6], [-1, -1], [5, 6]]
        assert queue.faults.tolist() == [41] + [-1] * 7
        assert queue.fault_iteration == 6


class TestState:
    def test_round_trip(self):
        queue, other = queue_of(), queue_of(seed=1)
        key, anchor = insert(queue, 7)
        queue.stage(anchor, key, torch.randint(10, (7, 2)))
        assert set(queue.state_dict()) == {'bank', 'neighbours', 'pointer'}
        other.load_state_dict(queue.state_dict())
        for each in (queue, other):
            insert(each, 6, seed=2)
        for name, value in queue.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
        assert queue.pointer == 3

    def test_another_length_is_refused(self):
        with pytest.raises(ValueError, match=r'bank of shape \(10, 4\), this run has \(12, 4\)'):
            queue_of(length=12).load_state_dict(queue_of().state_dict())
