"""Size, checkpoints and devices, which all state modules share."""

import copy
import io

import pytest
import torch

from mmselfsup_invp.memory import (
    Clusters,
    FeatureBank,
    FeatureQueue,
    KNNGraph,
    SelfLabels,
    first_occurrence,
)

from .tools import assert_same, rows, saved

LENGTH = 12


def filled_bank(**options):
    bank = FeatureBank(feat_dim=4, **{'length': LENGTH, 'seed': 1, **options})
    bank.update(torch.tensor([3, 5]), rows(2))
    return bank


def filled_queue(**options):
    queue = FeatureQueue(feat_dim=4, **{'length': LENGTH, 'seed': 1, **options})
    queue.push(rows(5), torch.arange(5))
    return queue


def filled_graph(**options):
    graph = KNNGraph(**{'num_neighbours': 3, 'length': LENGTH, **options})
    graph.rebuild(rows(len(graph)))
    return graph


def filled_clusters(**options):
    clusters = Clusters(**{'num_clusters': 3, 'feat_dim': 4, 'length': LENGTH, **options})
    clusters.cluster(rows(len(clusters)))
    clusters.offset.normal_()
    return clusters


def filled_labels(**options):
    return SelfLabels(**{'num_classes': 3, 'num_heads': 2, 'length': LENGTH, 'seed': 1, **options})


# How to fill a module and to make an empty one of the same sizes.
MODULES = dict(
    bank=(filled_bank, lambda **options: FeatureBank(4, **options)),
    delayed=(
        lambda **options: filled_bank(delayed=True, **options),
        lambda **options: FeatureBank(4, delayed=True, **options),
    ),
    queue=(filled_queue, lambda **options: FeatureQueue(4, **{'length': 0, **options})),
    graph=(filled_graph, lambda **options: KNNGraph(3, **options)),
    clusters=(filled_clusters, lambda **options: Clusters(3, 4, **options)),
    labels=(filled_labels, lambda **options: SelfLabels(3, 2, **options)),
)
KEYS = dict(
    bank={'bank'},
    delayed={'bank', 'next_bank'},
    queue={'bank', 'pointer'},
    graph={'neighbours'},
    clusters={'labels', 'centroids', 'offset'},
    labels={'labels'},
)
every_module = pytest.mark.parametrize('name', MODULES)


@every_module
@pytest.mark.parametrize('length', [LENGTH, 0])
def test_round_trip(name, length):
    filled, empty = MODULES[name]
    module, other = filled(), empty(length=length)
    assert len(other) == length and set(module.state_dict()) == KEYS[name]
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert len(other) == LENGTH
    assert_same(saved(module), other.state_dict())
    for value in other.state_dict().values():
        value.zero_()
    assert any(value.any() for value in module.state_dict().values()), 'a copy'


@every_module
def test_a_checkpoint_without_the_module_leaves_it_as_it_is(name):
    filled, empty = MODULES[name]
    module, other = filled(), empty()
    before = saved(module)
    module.load_state_dict({}, strict=False)
    other.load_state_dict({}, strict=False)
    assert_same(before, module.state_dict())
    assert len(other) == 0 or name == 'queue'


@every_module
def test_loading_into_a_sized_module_draws_no_new_rows(name, monkeypatch):
    module = MODULES[name][0]()
    monkeypatch.setattr(module, 'resize', None)
    module.load_state_dict(MODULES[name][0]().state_dict())


@every_module
def test_another_length_is_refused_and_changes_nothing(name):
    filled, _ = MODULES[name]
    other = filled(length=LENGTH + 1)
    before = saved(other)
    with pytest.raises(ValueError, match=rf'of shape \({LENGTH},.*this run has \({LENGTH + 1},'):
        other.load_state_dict(filled().state_dict())
    assert_same(before, other.state_dict())


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('bank', dict(feat_dim=5), r'bank of shape \(12, 4\), this run has \({}, 5\)'),
        ('queue', dict(feat_dim=5), r'bank of shape \(12, 4\), this run has \({}, 5\)'),
        ('graph', dict(num_neighbours=2), r'neighbours of shape \(12, 3\), this run has \({}, 2\)'),
        ('clusters', dict(num_clusters=4), r'centroids of shape \(3, 4\), this run has \(4, 4\)'),
        ('clusters', dict(feat_dim=5), r'centroids of shape \(3, 4\), this run has \(3, 5\)'),
        ('labels', dict(num_heads=1), r'labels of shape \(12, 2\), this run has \({}, 1\)'),
    ],
)
@pytest.mark.parametrize('length', [LENGTH, 0])
def test_other_sizes_are_refused_by_a_sized_and_an_empty_module(name, options, message, length):
    source = MODULES[name][0]()
    sizes = dict(
        bank=dict(feat_dim=4),
        queue=dict(feat_dim=4),
        graph=dict(num_neighbours=3),
        clusters=dict(num_clusters=3, feat_dim=4),
        labels=dict(num_classes=3, num_heads=2),
    )[name]
    other = type(source)(**{**sizes, **options, 'length': length})
    message = message.format(length) + '.*another data set.*Pretrained'
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(source.state_dict())


@every_module
def test_a_module_sized_after_moving_stays_on_its_device(name):
    module = MODULES[name][1]().to('meta')
    module.resize(LENGTH)
    assert {buffer.device.type for buffer in module.buffers()} == {'meta'}
    assert len(module) == LENGTH


@every_module
def test_a_copy_is_independent(name):
    module = MODULES[name][0]()
    before = saved(module)
    copied = copy.deepcopy(module)
    copied.resize(LENGTH + 3)
    assert_same(before, module.state_dict())
    assert len(copied) == LENGTH + 3 and len(module) == LENGTH


@pytest.mark.parametrize('name', ['bank', 'queue', 'labels'])
def test_initial_state_depends_on_the_seed_alone(name):
    empty = MODULES[name][1]
    values = []
    state = torch.get_rng_state()
    for seed in (3, 3, 4):
        module = empty(length=40, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        values.append(next(module.buffers()))
        state = torch.manual_seed(seed).get_state()
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


def test_a_delayed_bank_continues_from_one_that_is_not():
    for length in (LENGTH, 0):
        source, other = filled_bank(), FeatureBank(4, length, delayed=True)
        other.load_state_dict(source.state_dict())
        other.end_epoch()
        assert torch.equal(other.bank, source.bank)


def test_the_smallest_sizes_are_valid():
    for module in (FeatureBank(1, 1), FeatureQueue(1, 1), SelfLabels(1, 1, 1)):
        assert len(module) == 1
    assert len(KNNGraph(1, 2)) == len(Clusters(2, 1, 2)) == 2


@pytest.mark.parametrize('index', [[4], [1, 2, 3], [7, 2, 7, 7, 2], [5, 5]])
def test_first_occurrence(index):
    found = first_occurrence(torch.tensor(index))
    assert found.tolist() == [index.index(one) for one in index] and found.dtype == torch.int64
