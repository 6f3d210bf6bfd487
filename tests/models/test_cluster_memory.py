import pytest
import torch
import torch.nn.functional as F
from mmengine import dist

from mmselfsup_invp import ops
from mmselfsup_invp.models import ClusterMemory, ODCClusterMemory

from .. import toy

DIM = 6


def memory_of(length=24, clusters=4, **options):
    return ClusterMemory(num_clusters=clusters, feat_dim=DIM, length=length, **options)


def clustered(**options):
    memory = memory_of(**options)
    memory.cluster(toy.rows(len(memory), DIM, seed=1))
    return memory


def commit(memory, sample_idx, feature):
    memory.stage(torch.tensor(sample_idx), feature)
    memory.commit()


def test_the_paper_is_the_default():
    memory = ClusterMemory()
    assert memory.num_clusters == 10000 and memory.features.momentum == 0.5
    assert memory.centroids.shape == (10000, 128) and memory.bank.shape == (0, 128)
    clusters = memory.clusters
    assert (clusters.metric, clusters.assigner, clusters.lambd) == ('euclidean', 'nearest', 100)
    assert clusters.min_size is None


def test_options_reach_the_clusters_and_the_bank():
    options = dict(metric='dot', assigner='equal', lambd=7.0, min_size=3)
    memory = memory_of(momentum=0.2, init='uniform', seed=4, dtype='float16', **options)
    assert {name: getattr(memory.clusters, name) for name in options} == options
    bank = memory.features
    assert (bank.momentum, bank.init, bank.seed, bank.bank.dtype) == (
        *(0.2, 'uniform', 4, torch.float16),
    )


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(momentum=1.1), 'momentum = 1.1 is not valid. It must be a finite number from 0 to 1'),
        (
            dict(metric='cosine'),
            "metric = 'cosine' is not valid. It must be one of 'euclidean', 'dot'",
        ),
        (dict(assigner='sinkhorn'), "assigner = 'sinkhorn' is not valid"),
        (dict(clusters=1), 'num_clusters = 1 is not valid. It must be an integer from 2'),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        memory_of(**option)


class TestCluster:
    def test_takes_features_labels_and_centroids(self):
        feature = 3 * toy.rows(24, DIM, seed=1)
        memory = memory_of()
        assert not memory.clustered
        memory.cluster(feature, seed=2)
        unit = F.normalize(feature)
        torch.testing.assert_close(memory.bank, unit)
        labels, centroids = ops.kmeans(unit, 4, seed=2)
        assert torch.equal(memory.labels, labels)
        torch.testing.assert_close(memory.centroids, centroids)
        assert memory.clustered and memory.label_change_ratio() is None

    def test_may_keep_the_bank(self):
        memory = clustered()
        bank, before = memory.bank.clone(), memory.labels.clone()
        memory.cluster(toy.rows(24, DIM, seed=3), keep_bank=True, seed=4)
        assert torch.equal(memory.bank, bank)
        changed = int((memory.labels != before).sum())
        assert changed and memory.label_change_ratio() == changed / 24


class TestCommit:
    @pytest.mark.parametrize('metric', ['euclidean', 'dot'])
    def test_rows_and_labels_equal_a_hand_computation(self, metric):
        memory = clustered(momentum=0.8, metric=metric)
        bank, labels = memory.bank.clone(), memory.labels.clone()
        sample_idx, feature = [3, 17, 5], toy.rows(3, DIM, seed=5)
        commit(memory, sample_idx, feature)
        changed = 0
        for row, new in zip(sample_idx, feature, strict=True):
            bank[row] = F.normalize(0.8 * bank[row] + 0.2 * new, dim=0)
            if metric == 'dot':
                label = (memory.centroids @ bank[row]).argmax()
            else:
                label = (memory.centroids - bank[row]).norm(dim=1).argmin()
            changed += int(label != labels[row])
            labels[row] = label
        torch.testing.assert_close(memory.bank, bank)
        assert torch.equal(memory.labels, labels)
        assert memory.label_change_ratio() == changed / 3

    def test_labels_may_stay(self):
        memory = clustered(momentum=0.0)
        labels = memory.labels.clone()
        memory.refresh = False
        commit(memory, [0, 1], -memory.bank[:2])
        assert torch.equal(memory.labels, labels)
        assert memory.label_change_ratio() is None

    def test_the_first_of_equal_images_is_written_and_labelled(self):
        memory = clustered(momentum=0.0)
        feature = toy.rows(3, DIM, seed=6)
        commit(memory, [4, 9, 4], feature)
        torch.testing.assert_close(memory.bank[[4, 9]], feature[:2])
        assert torch.equal(memory.labels[[4, 9]], memory.clusters.assign(feature[:2]))


class TestUpkeep:
    def test_centroids_become_means_of_the_bank(self):
        memory = clustered()
        commit(memory, [0, 1, 2], toy.rows(3, DIM, seed=8))
        memory.update_centroids()
        for cluster in range(4):
            mean = memory.bank[memory.labels == cluster].mean(dim=0)
            torch.testing.assert_close(memory.centroids[cluster], mean)

    def test_repair_refills_small_clusters_from_the_bank(self):
        memory, reference = clustered(min_size=3), clustered(min_size=3)
        for each in (memory, reference):
            each.labels.fill_(0)
        assert memory.repair() == 3 == reference.clusters.repair(reference.bank)
        assert torch.equal(memory.labels, reference.labels)
        assert ops.cluster_sizes(memory.labels, 4).min() > 0

    def test_repair_sends_the_same_whatever_it_found(self, monkeypatch):
        """A rank that found nothing would not answer one that did, and both would wait."""
        memory, sent = clustered(), []
        monkeypatch.setattr(dist, 'broadcast', lambda buffer: sent.append(id(buffer)))
        memory.labels.copy_(torch.arange(24) % 4)
        assert memory.repair() == 0
        quiet = sent.copy()
        memory.labels.fill_(0)
        assert memory.repair() == 3
        assert sent == 2 * quiet
        assert {id(memory.labels), id(memory.centroids), id(memory.clusters.offset)} <= set(quiet)

    def test_equal_clusters_update_their_offsets(self):
        memory = clustered(assigner='equal')
        memory.clusters.offset.copy_(torch.tensor([0.5, 0.0, 0.0, 0.0]))
        labels = memory.labels.clone()
        assert memory.repair() == 0
        assert memory.clusters.offset[0] < 0.5 and torch.equal(memory.labels, labels)


class TestODC:
    def test_a_batch_is_written_at_once(self):
        memory = ODCClusterMemory(num_classes=4, feat_dim=DIM, length=24)
        memory.cluster(toy.rows(24, DIM, seed=1))
        before, bank = memory.labels.clone(), memory.bank.clone()
        ids = torch.tensor([3, 7, 20, 11])
        feature = 5 * toy.rows(4, DIM, seed=2)
        ratio = memory.update_samples_memory(ids, feature)
        torch.testing.assert_close(memory.bank[ids], F.normalize(bank[ids] + feature / 5))
        changed = (memory.label_bank[ids] != before[ids]).float().mean()
        assert 0 < ratio == changed < 1
        assert memory.label_bank is memory.labels and memory.staged is None

    def test_names_and_metric_are_those_of_odc(self):
        memory = ODCClusterMemory(num_classes=7)
        assert memory.num_clusters == 7 and memory.clusters.metric == 'dot'
        assert ODCClusterMemory().num_clusters == 10000
