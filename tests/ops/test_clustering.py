import importlib.util
import warnings

import pytest
import torch

from mmselfsup_invp.ops import assign, cluster_means, cluster_sizes, clustering, kmeans
from mmselfsup_invp.ops.clustering import cluster_health, scores, small_size

from . import reference
from .tools import Allocations, unit_rows

BACKENDS = ['torch']
if importlib.util.find_spec('sklearn'):
    BACKENDS.append('sklearn')

every_backend = pytest.mark.parametrize('backend', BACKENDS)


def inertia(feature, label, centroids):
    return (feature - centroids[label]).square().sum(dim=1).mean().item()


class TestAssign:
    @pytest.mark.parametrize('metric', ['euclidean', 'dot'])
    @pytest.mark.parametrize(('rows', 'clusters'), [(1, 1), (1, 7), (30, 1), (50, 12)])
    def test_equals_a_loop(self, metric, rows, clusters):
        feature = 2 * unit_rows(rows, 5, seed=1)
        centroids = unit_rows(clusters, 5, seed=2) * torch.rand(clusters, 1)
        found = assign(feature, centroids, metric)
        assert found.dtype == torch.int64
        assert found.tolist() == reference.assign(feature, centroids, metric)

    def test_golden_values(self):
        """B-G4: they differ where the norms of the centroids do."""
        feature, centroids = torch.tensor([[0.8, 0.6]]), torch.tensor([[0.9, 0.0], [0.5, 0.5]])
        assert assign(feature, centroids, 'dot').item() == 0
        assert assign(feature, centroids, 'euclidean').item() == 1
        unit = torch.nn.functional.normalize(centroids)
        assert assign(feature, unit, 'dot').item() == 1
        dot = torch.cat(list(scores(feature, centroids, 'dot')))
        torch.testing.assert_close(dot, torch.tensor([[0.72, 0.70]]))
        (score,) = scores(feature, centroids)
        squared = feature.square().sum() - 2 * score
        torch.testing.assert_close(squared, torch.tensor([[0.37, 0.10]]))

    def test_an_offset_favours_a_cluster(self):
        feature, centroids = unit_rows(40, 3, seed=3), unit_rows(4, 3, seed=4)
        offset = torch.tensor([0.0, 0.2, 0.0, -0.1])
        expected = (torch.cat(list(scores(feature, centroids))) + offset).argmax(dim=1)
        found = assign(feature, centroids, offset=offset)
        assert torch.equal(found, expected)
        assert not torch.equal(found, assign(feature, centroids))

    def test_memory_is_bounded_and_autocast_ignored(self, monkeypatch):
        monkeypatch.setattr(clustering, 'default_elements', lambda _: 2**10)
        feature, centroids = unit_rows(3000, 4, seed=5), unit_rows(50, 4, seed=6)
        with Allocations() as allocations:
            found = assign(feature, centroids)
        assert allocations.largest <= 3000
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(assign(feature, centroids), found)

    def test_wrong_arguments_are_named(self):
        with pytest.raises(ValueError, match="metric = 'cosine' is not valid.* 'euclidean', 'dot'"):
            assign(unit_rows(2, 3, seed=0), unit_rows(2, 3, seed=0), 'cosine')
        with pytest.raises(ValueError, match='feature has 4 dimensions where 3 are needed'):
            assign(unit_rows(2, 4, seed=0), unit_rows(2, 3, seed=0))


class TestStatistics:
    def test_sizes_and_means_equal_loops(self):
        feature = unit_rows(40, 5, seed=7)
        label = torch.randint(6, (40,), generator=torch.Generator().manual_seed(8))
        old = unit_rows(8, 5, seed=9)
        sizes = cluster_sizes(label, 8)
        assert sizes.tolist() == [label.tolist().count(cluster) for cluster in range(8)]
        assert sizes.min() == 0
        means = cluster_means(feature, label, old)
        expected = reference.cluster_means(feature, label.tolist(), old)
        torch.testing.assert_close(means, expected.float())
        assert torch.equal(means[7], old[7]), 'an empty cluster keeps its centroid'

    def test_the_mean_of_one_feature_is_itself(self):
        feature = unit_rows(3, 4, seed=23)
        assert torch.equal(cluster_means(feature, torch.arange(3), torch.zeros(3, 4)), feature)

    def test_half_precision_features_are_upcast_in_blocks(self, monkeypatch):
        feature, label = unit_rows(90, 5, seed=24).bfloat16(), torch.arange(90) % 7
        expected = reference.cluster_means(feature.float(), label.tolist(), torch.zeros(7, 5))
        monkeypatch.setattr('mmselfsup_invp.ops.clustering.default_elements', lambda _: 100)
        with Allocations() as allocations:
            means = cluster_means(feature, label, torch.zeros(7, 5))
        torch.testing.assert_close(means, expected.float())
        assert allocations.largest <= 100

    @pytest.mark.parametrize(
        ('size', 'entropy'), [([5, 5, 5], 1.0), ([9, 0, 0], 0.0), ([4, 4, 0], 0.630930), ([7], 1.0)]
    )
    def test_health(self, size, entropy):
        figures = cluster_health(torch.tensor(size))
        assert figures['empty'] == size.count(0)
        assert (figures['smallest'], figures['largest']) == (min(size), max(size))
        assert figures['entropy'] == pytest.approx(entropy, abs=1e-6)

    def test_small_is_20_where_imagenet_has_128(self):
        assert small_size(1_281_167, 10_000) == 20
        assert small_size(128 * 10_000, 10) == 20_000
        assert (small_size(128, 10), small_size(1000, 10), small_size(10, 10)) == (2, 16, 1)


class TestKMeans:
    @every_backend
    def test_finds_clusters_that_are_there(self, backend):
        centres = 5 * unit_rows(6, 8, seed=10)
        truth = torch.arange(600) % 6
        feature = centres[truth] + 0.1 * torch.randn(600, 8)
        # A start may put two centroids into one cluster.
        label = min(
            (kmeans(feature, 6, seed=seed, backend=backend) for seed in range(8)),
            key=lambda found: inertia(feature, *found),
        )[0]
        for cluster in range(6):
            assert len(label[truth == cluster].unique()) == 1
        assert len(label.unique()) == 6

    @every_backend
    @pytest.mark.parametrize(('rows', 'clusters'), [(1, 1), (30, 1), (30, 30), (200, 150)])
    def test_no_cluster_is_empty_and_centroids_are_means(self, backend, rows, clusters):
        feature = unit_rows(rows, 4, seed=11)
        feature[rows // 2 :] = feature[: rows - rows // 2].clone()  # Every row twice.
        label, centroids = kmeans(feature, clusters, backend=backend)
        assert cluster_sizes(label, clusters).min() >= 1
        torch.testing.assert_close(centroids, cluster_means(feature, label, centroids))

    @every_backend
    def test_equal_features_fill_every_cluster(self, backend):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            label, _ = kmeans(torch.ones(7, 3), 5, backend=backend)
        assert cluster_sizes(label, 5).min() >= 1

    @every_backend
    def test_the_seed_alone_decides(self, backend):
        feature = unit_rows(300, 6, seed=12)
        state = torch.get_rng_state()
        one, same, other = (kmeans(feature, 20, seed=s, backend=backend)[0] for s in (1, 1, 2))
        assert torch.equal(one, same) and not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)

    @every_backend
    def test_every_round_improves_until_the_labels_stay(self, backend):
        feature = unit_rows(500, 5, seed=13)
        found = [
            inertia(feature, *kmeans(feature, 12, iterations=n, backend=backend))
            for n in (1, 2, 5, 200)
        ]
        assert found == sorted(found, reverse=True) and found[0] > found[1] > found[2] > found[3]
        label, centroids = kmeans(feature, 12, iterations=200, backend=backend)
        assert torch.equal(assign(feature, centroids), label)

    def test_a_round_is_assignment_and_averaging(self):
        feature = unit_rows(60, 3, seed=20)
        start = torch.randperm(60, generator=torch.Generator().manual_seed(5))[:4]
        centroids = feature[start]
        for _ in range(3):
            label = reference.assign(feature, centroids, 'euclidean')
            centroids = reference.cluster_means(feature, label, centroids)
        label, means = kmeans(feature, 4, iterations=3, seed=5, backend='torch')
        assert label.tolist() == reference.assign(feature, centroids, 'euclidean')
        expected = reference.cluster_means(feature, label.tolist(), centroids)
        torch.testing.assert_close(means, expected.float())

    def test_an_empty_cluster_takes_half_of_the_largest(self):
        centroids = torch.tensor([[1.0, 0.0], [0.0, 8.0], [3.0, 4.0]])
        clustering._split_largest(centroids, torch.tensor([2, 5, 0]))
        expected = [[1.0, 0.0], [0.0, 8 - 8 / 1024], [0.0, 8 + 8 / 1024]]
        torch.testing.assert_close(centroids, torch.tensor(expected), rtol=0, atol=0)

    def test_a_cluster_empty_at_the_end_takes_the_farthest_feature(self):
        label = torch.tensor([0, 0, 0, 1, 2, 2])
        distance = torch.tensor([0.1, 0.5, 0.4, 0.9, 0.3, 0.2])  # The farthest is alone.
        clustering._fill_empty(label, distance, 5)
        assert label.tolist() == [0, 3, 4, 1, 2, 2]

    @pytest.mark.skipif('sklearn' not in BACKENDS, reason='needs scikit-learn')
    def test_backends_are_equally_good(self):
        feature = unit_rows(2000, 8, seed=14)
        found = [inertia(feature, *kmeans(feature, 40, backend=name)) for name in BACKENDS]
        assert found[0] == pytest.approx(found[1], rel=0.03)

    @pytest.mark.parametrize('installed', [True, False])
    def test_automatic_is_scikit_learn_if_it_is_installed(self, installed, monkeypatch):
        if installed:
            pytest.importorskip('sklearn')
        feature = unit_rows(100, 4, seed=15)
        expected = kmeans(feature, 7, backend='sklearn' if installed else 'torch')
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, 'find_spec', lambda name: find(name) if installed else None
        )
        for one, other in zip(kmeans(feature, 7), expected, strict=True):
            assert torch.equal(one, other)

    def test_wrong_arguments_are_named(self):
        feature = unit_rows(5, 3, seed=16)
        with pytest.raises(ValueError, match='num_clusters = 6 .*1 to 5: 5 features cannot fill'):
            kmeans(feature, 6)
        with pytest.raises(ValueError, match="backend = 'faiss' is not valid.*'sklearn', 'torch'"):
            kmeans(feature, 2, backend='faiss')
        feature[3, 1] = torch.nan
        with pytest.raises(ValueError, match='NaN or Inf; the network has diverged'):
            kmeans(feature, 2)
