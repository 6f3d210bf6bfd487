import importlib.util

import pytest
import torch

from mmselfsup_invp.ops import (
    assign,
    cluster_health,
    cluster_means,
    cluster_sizes,
    clustering,
    kmeans,
    repair_small,
    scores,
    small_size,
)

from . import reference
from .tools import Allocations, on_circle, unit_rows

BACKENDS = ['torch']
if importlib.util.find_spec('faiss'):
    BACKENDS.append('faiss')

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
        with pytest.raises(ValueError, match="metric = 'cosine' is unknown"):
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
        label, _ = kmeans(torch.ones(7, 3), 5, backend=backend)
        assert cluster_sizes(label, 5).min() >= 1

    @every_backend
    def test_the_seed_alone_decides(self, backend):
        feature = unit_rows(300, 6, seed=12)
        state = torch.get_rng_state()
        one, same, other = (kmeans(feature, 20, seed=s, backend=backend)[0] for s in (1, 1, 2))
        assert torch.equal(one, same) and not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)

    def test_it_improves_and_ends_where_a_further_round_changes_little(self):
        feature = unit_rows(500, 5, seed=13)
        found = [
            inertia(feature, *kmeans(feature, 12, iterations=n, backend='torch')) for n in (1, 50)
        ]
        assert found[1] < found[0]
        label, centroids = kmeans(feature, 12, iterations=200, backend='torch')
        assert (assign(feature, centroids) == label).float().mean() > 0.99

    @pytest.mark.skipif('faiss' not in BACKENDS, reason='needs faiss')
    def test_backends_are_about_as_good(self):
        feature = unit_rows(2000, 8, seed=14)
        found = [inertia(feature, *kmeans(feature, 40, backend=name)) for name in BACKENDS]
        assert found[0] == pytest.approx(found[1], rel=0.03)

    def test_without_faiss_it_runs_on_torch(self, monkeypatch):
        feature = unit_rows(100, 4, seed=15)
        expected = kmeans(feature, 7, backend='torch')
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, 'find_spec', lambda name: None if name == 'faiss' else find(name)
        )
        for one, other in zip(kmeans(feature, 7), expected, strict=True):
            assert torch.equal(one, other)

    def test_wrong_arguments_are_named(self):
        feature = unit_rows(5, 3, seed=16)
        with pytest.raises(ValueError, match='num_clusters = 6 .*1 to 5: 5 features cannot fill'):
            kmeans(feature, 6)
        with pytest.raises(ValueError, match="backend = 'sklearn' is unknown"):
            kmeans(feature, 2, backend='sklearn')
        feature[3, 1] = torch.nan
        with pytest.raises(ValueError, match='NaN or Inf; the network has diverged'):
            kmeans(feature, 2)


class TestRepair:
    def test_golden_values(self):
        """B-G5."""
        feature = on_circle(0, 4, 8, 60, 64, 68, 150, 200, 204)
        label = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2])
        centroids = cluster_means(feature, label, torch.zeros(3, 2))
        start = torch.tensor([[0.716802, 0.483489], [-0.866025, 0.5], [-0.926619, -0.374378]])
        torch.testing.assert_close(centroids, start, atol=1e-6, rtol=0)
        dots = feature[6] @ centroids[[0, 2]].T
        torch.testing.assert_close(dots, torch.tensor([-0.379024, 0.615286]), atol=1e-6, rtol=0)

        assert repair_small(feature, label, centroids, min_size=2).tolist() == [1]
        assert label[6:].tolist() == [2, 2, 2]
        first, second = label[:3].unique(), label[3:6].unique()
        assert len(first) == len(second) == 1 and {*first.tolist(), *second.tolist()} == {0, 1}
        halves = torch.tensor([[0.995944, 0.069643], [0.437659, 0.897334]])
        torch.testing.assert_close(centroids[torch.cat([first, second])], halves, atol=1e-6, rtol=0)
        torch.testing.assert_close(centroids[2], start[2], atol=1e-6, rtol=0)  # Stale.
        full = cluster_means(feature, label, centroids)[2]
        torch.testing.assert_close(full, torch.tensor([-0.906421, -0.082919]), atol=1e-6, rtol=0)

    @pytest.mark.parametrize('seed', range(5))
    def test_members_of_small_clusters_move_and_halves_fill_them(self, seed):
        feature = unit_rows(80, 4, seed=seed)
        label = torch.randint(6, (80,), generator=torch.Generator().manual_seed(seed))
        label[label == 5] = 0
        label[:2] = 5
        before, centroids = label.clone(), unit_rows(8, 4, seed=seed + 50)
        small = repair_small(feature, label, centroids, min_size=5)
        assert small.tolist() == [5, 6, 7]
        assert cluster_sizes(label, 8).min() >= 1
        # Where the two of cluster 5 went: to a large one, by the highest inner product.
        large = [0, 1, 2, 3, 4]
        moved = [large[i] for i in reference.assign(feature[:2], centroids_of(seed)[large], 'dot')]
        origin = [{moved[i]} | set(small.tolist()) for i in range(2)]
        assert all(int(label[i]) in origin[i] for i in range(2))
        for row in range(2, 80):
            assert label[row] == before[row] or int(label[row]) in {5, 6, 7}
        for cluster in small.tolist():
            mean = feature[label == cluster].mean(dim=0)
            torch.testing.assert_close(centroids[cluster], mean)

    def test_the_largest_is_halved_again_and_again(self):
        feature = on_circle(*range(0, 64))
        label, centroids = torch.zeros(64, dtype=torch.int64), torch.zeros(4, 2)
        assert repair_small(feature, label, centroids, 1).tolist() == [1, 2, 3]
        sizes = cluster_sizes(label, 4)
        assert sizes.max() <= 20 and sizes.sum() == 64

    def test_equal_features_are_halved_evenly(self):
        feature = torch.nn.functional.normalize(torch.ones(10, 3))
        label, centroids = torch.zeros(10, dtype=torch.int64), torch.zeros(2, 3)
        repair_small(feature, label, centroids, 1)
        assert cluster_sizes(label, 2).tolist() == [5, 5]

    def test_nothing_changes_where_nothing_is_small(self):
        feature, label = unit_rows(20, 3, seed=17), torch.arange(20) % 4
        centroids = unit_rows(4, 3, seed=18)
        before = label.clone(), centroids.clone()
        assert not len(repair_small(feature, label, centroids, 5))
        assert torch.equal(label, before[0]) and torch.equal(centroids, before[1])

    def test_all_small_is_refused(self):
        feature, label = unit_rows(8, 3, seed=19), torch.arange(8) % 4
        with pytest.raises(ValueError, match='All 4 clusters have fewer than 3 .* 2 each'):
            repair_small(feature, label, torch.zeros(4, 3), 3)


def centroids_of(seed):
    return unit_rows(8, 4, seed=seed + 50)
