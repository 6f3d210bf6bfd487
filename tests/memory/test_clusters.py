import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.memory import Clusters
from mmselfsup_invp.memory import clusters as module

from .tools import rows

DIM = 6


def clusters_of(length=24, num_clusters=4, **options):
    return Clusters(num_clusters, DIM, length, **options)


def clustered(length=24, **options):
    clusters, feature = clusters_of(length, **options), rows(length, DIM, seed=1)
    clusters.cluster(feature)
    assert clusters.change_ratio() is None, 'first labels do not count'
    return clusters, feature


def best(clusters, feature):
    """The best cluster of each feature, by a loop."""
    found = []
    for one in feature.double():
        if clusters.metric == 'dot':
            score = clusters.centroids.double() @ one
        else:
            score = -(clusters.centroids.double() - one).square().sum(dim=1) / 2
        found.append((score + clusters.offset.double()).argmax())
    return torch.stack(found)


def test_images_start_without_labels():
    clusters = clusters_of()
    assert len(clusters) == 24 and not clusters.clustered
    assert torch.equal(clusters.labels, torch.full((24,), -1))
    assert clusters.centroids.shape == (4, 6) and not clusters.offset.any()
    assert not Clusters(4, 6).clustered, 'without images'


def test_one_image_without_a_label_is_not_clustered():
    clusters, _ = clustered()
    assert clusters.clustered
    clusters.labels[7] = -1
    assert not clusters.clustered


def test_clustering_is_k_means():
    clusters, feature = clusters_of(), rows(24, DIM, seed=1)
    clusters.cluster(feature, seed=2)
    labels, centroids = ops.kmeans(feature, 4, seed=2)
    assert torch.equal(clusters.labels, labels)
    torch.testing.assert_close(clusters.centroids, centroids)


def test_clustering_anew_counts_the_changes():
    clusters, _ = clustered()
    before = clusters.labels.clone()
    clusters.cluster(rows(24, DIM, seed=3), seed=4)
    changed = int((clusters.labels != before).sum())
    assert changed and clusters.change_ratio() == changed / 24
    assert clusters.change_ratio() is None, 'it was read'


@pytest.mark.parametrize('metric', ['euclidean', 'dot'])
def test_new_labels_equal_a_loop(metric):
    clusters, _ = clustered(metric=metric)
    labels, sample_idx, feature = clusters.labels.clone(), [3, 17, 5], rows(3, DIM, seed=5)
    expected = best(clusters, feature)
    assert torch.equal(clusters.assign(feature), expected)
    clusters.relabel(torch.tensor(sample_idx), feature)
    changed = int((labels[sample_idx] != expected).sum())
    labels[sample_idx] = expected
    assert torch.equal(clusters.labels, labels)
    assert clusters.change_ratio() == changed / 3


def test_the_metrics_differ():
    """Else the test above would not tell one from the other."""
    found = []
    for metric in ('euclidean', 'dot'):
        clusters, _ = clustered(metric=metric)
        clusters.centroids[0] *= 3
        found.append(clusters.assign(rows(50, DIM, seed=5)))
        assert torch.equal(found[-1], best(clusters, rows(50, DIM, seed=5)))
    assert not torch.equal(*found)


def test_centroids_are_means_and_empty_ones_stay():
    clusters, feature = clustered()
    clusters.labels[clusters.labels == 2] = 1
    old = clusters.centroids[2].clone()
    clusters.update_centroids(feature)
    for cluster in (0, 1, 3):
        mean = feature[clusters.labels == cluster].mean(dim=0)
        torch.testing.assert_close(clusters.centroids[cluster], mean)
    assert torch.equal(clusters.centroids[2], old)


class TestRepair:
    def test_small_clusters_are_refilled(self):
        clusters, feature = clustered(min_size=3)
        clusters.labels.fill_(0)
        assert clusters.repair(feature) == 3
        sizes = ops.cluster_sizes(clusters.labels, 4)
        assert sizes.min() > 0
        assert clusters.repair(feature) == int((sizes < 3).sum())

    def test_with_a_limit_of_0_none_is(self):
        clusters, feature = clustered(min_size=0)
        clusters.labels.fill_(0)
        assert clusters.repair(feature) == 0 and not clusters.labels.any()

    @pytest.mark.parametrize(('length', 'small'), [(40, 2), (400, 16)])
    def test_the_limit_scales_with_the_size_of_a_cluster(self, length, small):
        """20 of 128: of 10 that is 2, of 100 it is 16."""
        clusters, feature = clustered(length)
        for size in (small - 1, small):
            clusters.labels.fill_(0)
            clusters.labels[:small] = 1
            clusters.labels[small : 2 * small] = 2
            clusters.labels[2 * small : 2 * small + size] = 3
            assert clusters.repair(feature) == (size < small)


class TestEqualClusters:
    @pytest.fixture
    def feature(self):
        """Two thirds of the images lie close together, so plain k-means is uneven."""
        feature = rows(240, DIM, seed=1)
        feature[:160] = feature[0] + 0.1 * feature[:160]
        return torch.nn.functional.normalize(feature)

    @pytest.fixture
    def clusters(self, feature):
        clusters = clusters_of(240, assigner='equal')
        clusters.cluster(feature)
        return clusters

    def test_all_clusters_start_with_about_equal_sizes(self, clusters, feature):
        uneven = clusters_of(240)
        uneven.cluster(feature)
        largest = [ops.cluster_sizes(each.labels, 4).max() for each in (clusters, uneven)]
        assert largest[0] <= 70 and largest[1] > 90
        assert not uneven.offset.any()
        for cluster in range(4):
            mean = feature[clusters.labels == cluster].mean(dim=0)
            torch.testing.assert_close(clusters.centroids[cluster], mean)

    def test_the_offsets_solve_the_transport_problem(self, feature):
        """Softmax of lambda times (score + offset) has equal column sums, to the tolerance."""
        clusters = clusters_of(240, assigner='equal', lambd=20.0)
        _, centroids = ops.kmeans(feature, 4)
        clusters.cluster(feature)
        score = feature @ centroids.T - centroids.square().sum(1) / 2
        plan = ((score + clusters.offset) * 20).softmax(dim=1).sum(dim=0) / 60
        torch.testing.assert_close(plan, torch.ones(4), atol=0.02, rtol=0)

    def test_new_labels_are_the_best_with_the_offset(self, clusters):
        new = rows(50, DIM, seed=2)
        assert clusters.offset.abs().max() > 0
        assert torch.equal(clusters.assign(new), best(clusters, new))

    def test_a_nearest_assigner_ignores_offsets(self):
        clusters, _ = clustered()
        new = rows(5, DIM, seed=2)
        expected = clusters.assign(new)
        clusters.offset[0] = 100
        assert torch.equal(clusters.assign(new), expected)

    def test_one_repair_is_one_pass_over_a_sample(self, clusters, feature, monkeypatch):
        """``offset <- offset - log(C * mean of the plan's rows) / lambda``, bounded below."""
        monkeypatch.setattr(module, 'SAMPLE_SIZE', 100)
        clusters.offset.copy_(torch.tensor([0.0, 0.1, 0.05, -3.0]))
        before = clusters.offset.double()
        torch.manual_seed(4)
        sample = feature[torch.randint(240, (100,))].double()
        centroids = clusters.centroids.double()
        score = sample @ centroids.T - centroids.square().sum(1) / 2
        share = ((score + before) * 100).softmax(dim=1).mean(dim=0) * 4
        assert share[3] < 1e-3, 'the bound has an effect'
        torch.manual_seed(4)
        assert clusters.repair(feature) == 0
        expected = before - share.clamp(min=1e-3).log() / 100
        torch.testing.assert_close(clusters.offset.double(), expected, atol=1e-5, rtol=1e-5)

    def test_repairs_lead_to_equal_sizes_from_anywhere(self, clusters, feature):
        clusters.offset.zero_()
        clusters.offset[0] = 0.5  # One cluster takes all.
        torch.manual_seed(0)
        largest = []
        for _ in range(60):
            clusters.repair(feature)
            largest.append(ops.cluster_sizes(clusters.assign(feature), 4).max().item())
        assert largest[0] > 200
        # Samples repeat features, so the sizes are not quite equal.
        assert max(largest[-5:]) < 90


def test_more_clusters_than_images_are_refused_with_the_valid_range():
    with pytest.raises(ValueError, match='3 images cannot fill 4 clusters.*2 to 3; at most 2 '):
        clusters_of(3)
    with pytest.raises(ValueError, match='100 images cannot fill 200 clusters.*at most 12 leave 8'):
        clusters_of(100, 200)
    clusters_of(4)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(num_clusters=1), 'num_clusters = 1 is not valid. It must be an integer from 2'),
        (
            dict(metric='cosine'),
            "metric = 'cosine' is not valid. It must be one of 'euclidean', 'dot'",
        ),
        (
            dict(assigner='sinkhorn'),
            "assigner = 'sinkhorn' is not valid. It must be one of 'nearest', 'equal'",
        ),
        (dict(lambd=0), 'lambd = 0 is not valid'),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        Clusters(**option)


def test_the_defaults():
    clusters = Clusters()
    assert (clusters.num_clusters, clusters.metric, clusters.assigner) == (
        10000,
        'euclidean',
        'nearest',
    )
    assert clusters.lambd == 100 and clusters.min_size is None
    # What a search and a step of the offsets cost at most.
    assert (module.TOLERANCE, module.MAX_PASSES, module.SAMPLE_SIZE) == (0.01, 100, 2**14)
    assert clusters.centroids.shape == (10000, 128)
