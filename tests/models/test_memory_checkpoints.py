"""Checkpoints of all registered memories."""

import copy

import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import nn

from mmselfsup_invp.evaluation.checkpoints import check_fit
from mmselfsup_invp.models.memories import (
    SelfLabelMemory,
)

from .. import toy
from .memories import (
    DIM,
    LENGTH,
    MEMORIES,
    assert_same,
    enter,
    every_memory,
    neighbours_of,
    propagation,
)


class TestCheckpoints:
    """Their names are those of the first release, whatever module holds the buffers now."""

    def saved(self, name):
        """Names and values as the first release wrote them, of a memory in use."""
        bank = toy.rows(LENGTH, DIM, seed=5)
        half = bank.half() if name == 'half' else bank
        graph = dict(bank=half, neighbours=neighbours_of(LENGTH))
        labels = dict(
            bank=bank,
            labels=torch.arange(LENGTH) % 4,
            centroids=toy.rows(4, DIM, seed=6),
            offset=torch.arange(4) / 100 if name == 'equal' else torch.zeros(4),
        )
        return dict(
            bank=graph,
            half=graph,
            delayed=dict(graph, next_bank=toy.rows(LENGTH, DIM, seed=7)),
            queue=dict(graph, pointer=torch.tensor(22)),
            clusters=labels,
            equal=labels,
            odc=labels,
            keys=dict(bank=bank, pointer=torch.tensor(22)),
        )[name]

    @every_memory
    @pytest.mark.parametrize('sized', [True, False])
    @pytest.mark.parametrize('by_mmengine', [True, False])
    def test_of_the_first_release_load(self, name, sized, by_mmengine, tmp_path, capsys):
        state, (filled, empty) = self.saved(name), MEMORIES[name]
        memory = filled() if sized else empty()
        model = nn.ModuleDict(dict(memory=memory, neck=nn.Linear(2, 2)))
        names = {f'memory.{key}': value.clone() for key, value in state.items()}
        names |= {key: value for key, value in model.state_dict().items() if 'neck' in key}
        check_fit(model, names, 'The checkpoint')
        if by_mmengine:
            torch.save(dict(state_dict=names), tmp_path / 'model.pth')
            load_checkpoint(model, str(tmp_path / 'model.pth'), strict=True)
        else:
            model.load_state_dict(names)
        assert set(memory.state_dict()) == set(state)
        for key, value in state.items():
            assert torch.equal(memory.state_dict()[key], value), key
        assert len(memory) == LENGTH and 'converted' not in capsys.readouterr().out

    @every_memory
    def test_a_loaded_memory_continues_as_the_one_that_was_saved(self, name):
        filled, empty = MEMORIES[name]
        straight, resumed = filled(), empty()
        enter(straight, seed=1)
        resumed.load_state_dict(straight.state_dict())
        for memory in (straight, resumed):
            enter(memory, seed=2)
            memory.end_epoch()
        assert_same(straight, resumed)

    def test_of_labels(self):
        saved = SelfLabelMemory(3, 2, length=9, seed=5)
        memory = SelfLabelMemory(3, 2)
        assert set(saved.state_dict()) == {'labels'}
        memory.load_state_dict(saved.state_dict())
        assert torch.equal(memory.labels, saved.labels)

    def test_a_delayed_bank_continues_from_one_that_is_not(self):
        source, memory = propagation(length=LENGTH, seed=1), propagation(update='epoch')
        enter(source, seed=1)
        memory.load_state_dict(source.state_dict())
        memory.end_epoch()
        assert torch.equal(memory.bank, source.bank)

    def test_mmengine_does_not_hide_that_sizes_differ(self, tmp_path):
        """By itself it would skip what does not fit with a warning."""
        model = nn.ModuleDict(dict(memory=propagation(length=LENGTH)))
        other = nn.ModuleDict(dict(memory=propagation(length=12)))
        before = other['memory'].bank.clone()
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
        with pytest.raises(ValueError, match=r'bank of shape \(24, 6\), this run has \(12, 6\)'):
            load_checkpoint(other, str(tmp_path / 'model.pth'))
        assert torch.equal(other['memory'].bank, before)

    def test_the_network_alone_loads_without_a_memory(self):
        """The way that the message recommends."""
        model = nn.ModuleDict(dict(neck=nn.Linear(2, 2), memory=propagation(length=LENGTH)))
        state = {name: value for name, value in model.state_dict().items() if 'neck' in name}
        other = nn.ModuleDict(dict(neck=nn.Linear(2, 2), memory=propagation(length=12)))
        other.load_state_dict(state, strict=False)
        assert torch.equal(other['neck'].weight, model['neck'].weight)

    def test_a_copy_has_a_state_of_its_own(self):
        memory = propagation(length=LENGTH)
        copied = copy.deepcopy(memory)
        enter(copied, seed=1)
        assert set(copied.state_dict()) == {'bank', 'neighbours'}
        assert not torch.equal(copied.bank, memory.bank)
