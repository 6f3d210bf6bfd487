"""What all registered memories share: size, staging, checkpoints."""

import copy
import doctest
import importlib
import pkgutil

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from torch import nn

from mmselfsup_invp.evaluation.checkpoints import check_fit
from mmselfsup_invp.memory import NonFiniteFeatures, NonFiniteMonitor
from mmselfsup_invp.models import memories
from mmselfsup_invp.models.memories import (
    ClusterMemory,
    KeyQueue,
    Memory,
    ODCClusterMemory,
    PropagationMemory,
    PropagationQueue,
    SelfLabelMemory,
    memories_of,
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


@pytest.mark.parametrize('name', [one.name for one in pkgutil.iter_modules(memories.__path__)])
def test_examples_in_docstrings(name):
    module = importlib.import_module(f'{memories.__name__}.{name}')
    assert doctest.testmod(module, extraglobs=dict(torch=torch)).failed == 0


def test_a_memory_is_a_module_of_mmengine_with_a_monitor():
    assert issubclass(Memory, BaseModule)
    assert type(propagation().monitor) is NonFiniteMonitor
    names = {name for name, _ in propagation(update='epoch').to('meta').named_buffers()}
    assert {'features.next_bank', 'graph.neighbours', 'monitor.sample_idx'} <= names
