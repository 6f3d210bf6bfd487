import pytest
import torch
import torch.nn.functional as F
from mmengine import dist

from mmselfsup_invp import ops
from mmselfsup_invp.models import ClusterMemory, ODCClusterMemory

from .. import toy


def memory_of(length=24, clusters=4, dim=6, **options):
    return ClusterMemory(num_clusters=clusters, feat_dim=dim, length=length, **options)


def clustered(**options):
    memory = memory_of(**options)
    memory.cluster(toy.rows(len(memory), memory.feat_dim, seed=1))
    return memory


def commit(memory, sample, feature, **options):
    memory.stage(torch.tensor(sample), feature)
    memory.commit(**options)


class TestSize:
    def test_rows_start_without_labels(self):
        memory = memory_of()
        assert len(memory) == 24 and not memory.clustered
        assert torch.equal(memory.labels, torch.full((24,), -1))
        assert memory.centroids.shape == (4, 6)

    def test_more_clusters_than_images_are_refused_with_the_valid_range(self):
        with pytest.raises(ValueError, match='3 images cannot fill 4 clusters.*2 to 3'):
            memory_of(length=None).fit(3)

    def test_one_cluster_is_refused(self):
        with pytest.raises(ValueError, match='num_clusters = 1 .*negatives are of other clusters'):
            memory_of(clusters=1)

    def test_an_empty_memory_takes_the_rows_of_a_checkpoint(self):
        source = clustered()
        memory = memory_of(length=None)
        memory.load_state_dict(source.state_dict())
        assert memory.clustered
        for name, value in source.state_dict().items():
            assert torch.equal(memory.state_dict()[name], value), name

    @pytest.mark.parametrize('change', [dict(clusters=5), dict(dim=7), dict(length=25)])
    @pytest.mark.parametrize('empty', [True, False])
    def test_a_checkpoint_of_other_sizes_is_refused(self, change, empty):
        options = dict(change)
        if empty:
            if 'length' in change:
                pytest.skip('an empty memory takes any length')
            options['length'] = None
        with pytest.raises(ValueError, match='checkpoint holds .* of shape'):
            memory_of(**options).load_state_dict(clustered().state_dict())

    @pytest.mark.parametrize(
        ('option', 'message'),
        [
            (dict(momentum=1.1), 'momentum = 1.1 must be within 0 to 1'),
            (dict(metric='cosine'), "metric = 'cosine' is unknown; valid: 'euclidean', 'dot'"),
        ],
    )
    def test_wrong_options_are_named(self, option, message):
        with pytest.raises(ValueError, match=message):
            memory_of(**option)


class TestCluster:
    def test_takes_features_labels_and_centroids(self):
        feature = 3 * toy.rows(24, 6, seed=1)
        memory = memory_of()
        memory.cluster(feature, seed=2)
        unit = F.normalize(feature)
        torch.testing.assert_close(memory.bank, unit)
        labels, centroids = ops.kmeans(unit, 4, seed=2)
        assert torch.equal(memory.labels, labels)
        torch.testing.assert_close(memory.centroids, centroids)
        assert memory.clustered and memory.label_changes.tolist() == [0, 0]

    def test_may_keep_the_bank(self):
        memory = clustered()
        bank, before = memory.bank.clone(), memory.labels.clone()
        memory.cluster(toy.rows(24, 6, seed=3), keep_bank=True, seed=4)
        assert torch.equal(memory.bank, bank)
        changed = int((memory.labels != before).sum())
        assert memory.label_changes.tolist() == [changed, 24] and changed


class TestCommit:
    @pytest.mark.parametrize('metric', ['euclidean', 'dot'])
    def test_rows_and_labels_equal_a_hand_computation(self, metric):
        memory = clustered(momentum=0.8, metric=metric)
        bank, labels = memory.bank.clone(), memory.labels.clone()
        sample, feature = [3, 17, 5], toy.rows(3, 6, seed=5)
        memory.stage(torch.tensor(sample), feature)
        assert torch.equal(memory.bank, bank), 'backward still reads the rows'
        memory.commit()
        changed = 0
        for row, new in zip(sample, feature, strict=True):
            bank[row] = F.normalize(0.8 * bank[row] + 0.2 * new, dim=0)
            if metric == 'dot':
                label = (memory.centroids @ bank[row]).argmax()
            else:
                label = (memory.centroids - bank[row]).norm(dim=1).argmin()
            changed += int(label != labels[row])
            labels[row] = label
        torch.testing.assert_close(memory.bank, bank)
        assert torch.equal(memory.labels, labels)
        assert memory.label_changes.tolist() == [changed, 3]

    def test_labels_may_stay(self):
        memory = clustered(momentum=0.0)
        labels = memory.labels.clone()
        commit(memory, [0, 1], -memory.bank[:2], refresh=False)
        assert torch.equal(memory.labels, labels)
        assert memory.label_changes.tolist() == [0, 0]

    def test_the_first_of_equal_samples_is_written(self):
        memory = clustered(momentum=0.0)
        feature = toy.rows(3, 6, seed=6)
        commit(memory, [4, 9, 4], feature)
        torch.testing.assert_close(memory.bank[[4, 9]], feature[:2])

    def test_features_that_are_not_finite_stay_out(self):
        memory = clustered()
        bank, labels = memory.bank.clone(), memory.labels.clone()
        feature = toy.rows(2, 6, seed=7)
        feature[0, 2] = torch.nan
        memory.iteration = 12
        commit(memory, [8, 2], feature)
        assert torch.equal(memory.bank[8], bank[8]) and memory.bank.isfinite().all()
        assert memory.faults[0] == 8 and memory.fault_iteration == 12
        assert memory.labels[8] == labels[8]

    def test_a_batch_that_was_not_committed_is_an_error(self):
        memory = clustered()
        memory.stage(torch.tensor([0]), toy.rows(1, 6))
        with pytest.raises(RuntimeError, match='OnlineClusterHook'):
            memory.stage(torch.tensor([1]), toy.rows(1, 6))


class TestUpkeep:
    def test_centroids_are_means_and_empty_ones_stay(self):
        memory = clustered()
        memory.labels[memory.labels == 2] = 1
        old = memory.centroids[2].clone()
        memory.update_centroids()
        for cluster in (0, 1, 3):
            mean = memory.bank[memory.labels == cluster].mean(dim=0)
            torch.testing.assert_close(memory.centroids[cluster], mean)
        assert torch.equal(memory.centroids[2], old)

    def test_repair_refills_small_clusters(self):
        memory = clustered(min_size=3)
        memory.labels.fill_(0)
        assert memory.repair() == 3
        sizes = ops.cluster_sizes(memory.labels, 4)
        assert sizes.min() > 0
        assert memory.repair() == int((sizes < 3).sum())

    def test_repair_sends_the_same_whatever_it_found(self, monkeypatch):
        """A rank that found nothing would not answer one that did, and both would wait."""
        memory, sent = clustered(), []
        monkeypatch.setattr(dist, 'broadcast', lambda buffer: sent.append(id(buffer)))
        memory.labels.copy_(torch.arange(24) % 4)
        assert memory.repair() == 0
        quiet = sent.copy()
        memory.labels.fill_(0)
        assert memory.repair() == 3
        assert sent == 2 * quiet and id(memory.labels) in quiet

    def test_no_repair_where_none_is_wanted(self):
        memory = clustered(min_size=0)
        memory.labels.fill_(0)
        assert memory.repair() == 0 and not memory.labels.any()

    @pytest.mark.parametrize(('length', 'small'), [(40, 2), (400, 16)])
    def test_the_limit_scales_with_the_size_of_a_cluster(self, length, small):
        """20 of 128: of 10 that is 2, of 100 it is 16."""
        memory = clustered(length=length)
        for size in (small - 1, small):
            memory.labels.fill_(0)
            memory.labels[:small] = 1
            memory.labels[small : 2 * small] = 2
            memory.labels[2 * small : 2 * small + size] = 3
            assert memory.repair() == (size < small)


class TestEqualClusters:
    """The rule of SeLa as the assigner of the branch."""

    @pytest.fixture
    def memory(self):
        """Two thirds of the images lie close together, so plain k-means is uneven."""
        memory = memory_of(length=240, assigner='equal')
        feature = toy.rows(240, 6, seed=1)
        feature[:160] = feature[0] + 0.1 * feature[:160]
        memory.cluster(feature)
        return memory

    def test_all_clusters_start_alike(self, memory):
        uneven = memory_of(length=240)
        uneven.cluster(memory.bank)
        spread = [ops.cluster_sizes(m.labels, 4).max().item() for m in (memory, uneven)]
        assert spread[0] <= 70 and spread[1] > 90
        for cluster in range(4):
            mean = memory.bank[memory.labels == cluster].mean(dim=0)
            torch.testing.assert_close(memory.centroids[cluster], mean)

    def test_new_labels_are_the_best_with_the_offset(self, memory):
        feature = toy.rows(5, 6, seed=2)
        memory.momentum = 0.0
        commit(memory, [0, 1, 2, 3, 4], feature)
        score = feature @ memory.centroids.T - memory.centroids.square().sum(1) / 2
        assert torch.equal(memory.labels[:5], (score + memory.offset).argmax(dim=1))
        assert memory.offset.abs().max() > 0

    def test_repair_lets_the_offsets_follow(self, memory):
        """From anywhere, also where one cluster takes all."""
        memory.offset.zero_()
        memory.offset[0] = 0.5
        torch.manual_seed(0)
        largest = []
        for _ in range(60):
            assert memory.repair() == 0
            largest.append(ops.cluster_sizes(memory._assign(memory.bank), 4).max().item())
        assert largest[0] > 200
        # From samples with repeats, so not quite equal.
        assert max(largest[-5:]) < 90

    def test_wrong_options_are_named(self):
        with pytest.raises(ValueError, match="assigner = 'sinkhorn' is unknown"):
            memory_of(assigner='sinkhorn')
        with pytest.raises(ValueError, match='lambd = 0 must be positive'):
            memory_of(lambd=0)


class TestODC:
    def test_a_batch_is_taken_at_once(self):
        memory = ODCClusterMemory(num_classes=4, feat_dim=6, length=24)
        memory.cluster(toy.rows(24, 6, seed=1))
        before = memory.labels.clone()
        ids = torch.tensor([3, 7, 20, 11])
        ratio = memory.update_samples_memory(ids, -5 * memory.bank[ids])
        assert ratio == (memory.label_bank[ids] != before[ids]).float().mean()
        assert memory.label_bank is memory.labels
        assert memory.metric == 'dot'
        torch.testing.assert_close(memory.bank.norm(dim=1)[:3], torch.ones(3))
