"""What all registered memories share: size, staging, checkpoints."""

import copy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import nn

from mmselfsup_invp.memory import NonFiniteFeatures, NonFiniteMonitor
from mmselfsup_invp.models.memories import (
    KeyQueue,
    Memory,
    PropagationMemory,
    PropagationQueue,
    SelfLabelMemory,
    memories_of,
)

from .. import toy
from .memories import (
    DIM,
    MEMORIES,
    assert_same,
    clusters,
    every_memory,
    memory_inserts,
    neighbours_of,
    propagation,
)


class TestSize:
    @pytest.mark.parametrize(
        'empty', [propagation, clusters, lambda **o: SelfLabelMemory(3, 2, **o)]
    )
    def test_comes_from_the_data_set(self, empty):
        memory = empty()
        assert memory.holds_images and len(memory) == 0
        memory.fit(7)
        assert {len(part) for _, part in memory.parts()} == {7}
        assert_same(memory, empty(length=7))
        memory.fit(7)
        assert_same(memory, empty(length=7))
        with pytest.raises(ValueError, match='Memory has 7 rows, the data set 8 images.*length'):
            memory.fit(8)

    @pytest.mark.parametrize('kind', [PropagationQueue, KeyQueue])
    def test_a_queue_is_shortened_to_the_data_set(self, kind, capsys):
        MMLogger.get_instance('queue')
        queue = kind(length=30, feat_dim=DIM)
        assert not queue.holds_images
        queue.fit(5000)
        assert len(queue) == 30 and 'lowered' not in capsys.readouterr().out
        queue.fit(30)
        queue.fit(12)
        assert {len(part) for _, part in queue.parts()} == {12}
        assert capsys.readouterr().out.count('queue of 30 is lowered to the 12 images') == 1

    def test_fitting_again_keeps_the_rows(self):
        memory = propagation(length=7)
        memory.bank.mul_(-1)
        kept = memory.bank.clone()
        memory.fit(7)
        assert torch.equal(memory.bank, kept)

    @pytest.mark.parametrize(
        ('memory', 'images', 'message'),
        [
            (propagation, 2, '2 rows cannot give 2 neighbours.*1 to 1'),
            (clusters, 3, '3 images cannot fill 4 clusters.*2 to 3'),
            (lambda: SelfLabelMemory(8, 1), 7, 'num_classes = 8 .* 1 to 7.*head and memory'),
            (lambda: PropagationQueue(9, 2, feat_dim=DIM), 2, '2 rows cannot give 2 neighbours'),
        ],
    )
    def test_a_data_set_that_is_too_small_is_refused(self, memory, images, message):
        with pytest.raises(ValueError, match=message):
            memory().fit(images)

    @pytest.mark.parametrize(
        ('memory', 'hook'),
        [
            (propagation, 'PropagationMemoryHook'),
            (clusters, 'OnlineClusterHook'),
            (SelfLabelMemory, 'SelfLabelHook'),
        ],
    )
    def test_an_empty_memory_names_its_hook(self, memory, hook):
        message = rf"Memory has no rows yet.*default_hooks = dict\(\w+=dict\(type='{hook}'"
        with pytest.raises(RuntimeError, match=message):
            memory().require_rows()
        sized = memory()
        sized.fit(4000)
        sized.require_rows()


class TestStaging:
    @every_memory
    def test_two_batches_without_a_commit_name_the_hook(self, name):
        if memory_inserts(MEMORIES[name][0]()):
            pytest.skip('commits at once')
        memory = MEMORIES[name][0]()
        graph = isinstance(memory, PropagationMemory)
        batch = torch.tensor([0]), toy.rows(1, DIM), *([neighbours_of(1)] if graph else [])
        memory.stage(*batch)
        with pytest.raises(RuntimeError, match=f'{type(memory).__name__} was not updated.*Hook'):
            memory.stage(*batch)
        memory.commit()
        memory.stage(*batch)

    @every_memory
    def test_nothing_changes_before_the_commit_and_nothing_without_a_batch(self, name):
        memory = MEMORIES[name][0]()
        reference = copy.deepcopy(memory)
        memory.commit()
        memory.end_epoch()
        assert_same(memory, reference)
        if not memory_inserts(memory):
            graph = isinstance(memory, PropagationMemory)
            feature = toy.rows(2, DIM).requires_grad_()
            others = [neighbours_of(2)] if graph else []
            memory.stage(torch.tensor([0, 3]), feature, *others)
            assert_same(memory, reference)  # Backward still reads the rows.
            assert not memory.staged[1].requires_grad
            memory.commit()
            memory.end_epoch()
            assert memory.staged is None and not torch.equal(memory.bank, reference.bank)

    @every_memory
    def test_features_that_are_not_finite_are_reported_with_their_ids(self, name):
        memory = MEMORIES[name][0]()
        memory.monitor.iteration = 12
        reference = copy.deepcopy(memory)
        sample_idx, feature = torch.tensor([8, 2]), toy.rows(2, DIM)
        feature[0, 2] = torch.nan
        graph = [neighbours_of(2)] if hasattr(memory, 'neighbours') else []
        anchor = memory.insert(feature, sample_idx) if memory_inserts(memory) else sample_idx
        memory.stage(anchor, feature, *graph)
        memory.commit()
        memory.end_epoch()
        row = anchor[0]
        assert torch.equal(memory.bank[row], reference.bank[row])
        assert not torch.equal(memory.bank, reference.bank) and memory.bank.isfinite().all()
        if graph:
            assert torch.equal(memory.neighbours[row], reference.neighbours[row])
        with pytest.raises(NonFiniteFeatures, match=r'iteration 12, .* samples \[8\]'):
            memory.monitor.check()


def test_memories_of_a_model():
    model = toy.build_model(toy.interclr_config('MomentumInterCLR'))
    assert memories_of(model) == [model.branch.memory, model.queue]
    model = toy.build_model(toy.model_config(branch=toy.branch_config()))
    assert memories_of(model) == [model.memory, model.branch.memory]
    assert memories_of(toy.build_model(toy.sela_config()).memory)[0].holds_images
    assert memories_of(nn.Linear(2, 2)) == []


def test_a_memory_is_a_module_of_mmengine_with_a_monitor():
    assert issubclass(Memory, BaseModule)
    assert type(propagation().monitor) is NonFiniteMonitor
    names = {name for name, _ in propagation(update='epoch').to('meta').named_buffers()}
    assert {'features.next_bank', 'graph.neighbours', 'monitor.sample_idx'} <= names
