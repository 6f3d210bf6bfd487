import pytest
import torch

from mmselfsup_invp.ops import cluster_means, cluster_sizes, repair_small
from mmselfsup_invp.ops.repair import _plus_plus_starts, two_means

from . import reference
from .tools import on_circle, unit_rows


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

    def test_members_move_by_inner_product_with_the_old_centroids(self):
        """By distance the member would join cluster 1; its own small cluster does not count."""
        feature = torch.tensor([[1.0, 0.0]] + 4 * [[2.0, 0.1]] + 3 * [[0.9, 0.2]])
        label = torch.tensor([2] + 4 * [0] + 3 * [1])
        centroids = torch.tensor([[2.0, 0.1], [0.9, 0.2], [9.0, 0.0]])
        assert reference.assign(feature[:1], centroids[:2], 'euclidean') == [1]
        repair_small(feature, label, centroids, min_size=2)
        # Cluster 0 is the largest with the moved member, which 2-means separates from the others.
        assert label.tolist() == [2] + 4 * [0] + 3 * [1] or label.tolist() == [0] + 4 * [2] + 3 * [
            1
        ]
        torch.testing.assert_close(centroids[1], torch.tensor([0.9, 0.2]))

    def test_the_largest_cluster_is_found_again_after_each_split(self):
        """16 and 9 members, two empty clusters: 8 + 8 first, then the 9 are split."""
        feature = torch.cat([on_circle(*range(16)), on_circle(*range(100, 109))])
        label = torch.tensor([0] * 16 + [1] * 9)
        repair_small(feature, label, torch.zeros(4, 2), 1)
        assert sorted(cluster_sizes(label, 4).tolist()) == [4, 5, 8, 8]

    @pytest.mark.parametrize(('min_size', 'small'), [(3, []), (4, [1])])
    def test_small_is_below_the_minimum(self, min_size, small):
        feature, label = unit_rows(10, 3, seed=21), torch.tensor([0] * 7 + [1] * 3)
        assert repair_small(feature, label, unit_rows(2, 3, seed=22), min_size).tolist() == small

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


def inertia(feature, side):
    """Sum of squared distances to the mean of the own part."""
    parts = [feature[side == value].double() for value in (False, True)]
    return sum((part - part.mean(dim=0)).square().sum().item() for part in parts)


class TestTwoMeans:
    def cases(self):
        """Features with one to five groups, few and many, in few and many dimensions."""
        for case in range(24):
            rows, dim, groups = (30, 100, 400)[case % 3], (2, 8, 32, 128)[case % 4], 1 + case % 5
            generator = torch.Generator().manual_seed(case)
            centre = torch.randn(groups, dim, generator=generator)
            group = torch.randint(groups, (rows,), generator=generator)
            noise = 0.7 * torch.randn(rows, dim, generator=generator)
            yield torch.nn.functional.normalize(centre[group] + noise)

    def test_is_as_good_as_ten_starts_of_scikit_learn(self):
        cluster = pytest.importorskip('sklearn.cluster')
        ratios = []
        for feature in self.cases():
            best = cluster.KMeans(2, n_init=10, random_state=0).fit(feature.numpy()).inertia_
            ratios.append(inertia(feature, two_means(feature)) / best)
        ratios = torch.tensor(ratios)
        assert ratios.max() < 1.02 and ratios.mean() < 1.001

    def test_starts_are_those_of_k_means_plus_plus(self):
        """The first is uniform, the second is drawn in proportion to the squared distance."""
        feature = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [-0.5, 0.5]])
        first, second = _plus_plus_starts(feature, seed=0, num=20_000)
        squared = torch.cdist(feature, feature).square()
        for row, start in enumerate(feature):
            drawn = second[(first == start).all(dim=1)]
            assert len(drawn) / 20_000 == pytest.approx(1 / 4, abs=0.02)
            for other, share in zip(feature, squared[row] / squared[row].sum(), strict=True):
                found = (drawn == other).all(dim=1).float().mean()
                assert found.item() == pytest.approx(share.item(), abs=0.03)

    def test_ends_where_every_feature_is_nearest_to_its_own_mean(self):
        feature = torch.cat([on_circle(*range(0, 40)), on_circle(*range(120, 150))])
        side = two_means(feature)
        assert sorted(cluster_sizes(side.long(), 2).tolist()) == [30, 40]
        means = torch.stack([feature[~side].mean(dim=0), feature[side].mean(dim=0)])
        assert torch.equal(torch.cdist(feature, means).argmin(dim=1) == 1, side)

    def test_the_seed_alone_decides(self):
        feature, state = unit_rows(60, 20, seed=3), torch.get_rng_state()
        assert torch.equal(two_means(feature, 1), two_means(feature, 1))
        assert any(not torch.equal(two_means(feature, 0), two_means(feature, s)) for s in range(9))
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
    @pytest.mark.parametrize('shift', [0, 100])
    def test_two_groups_are_found_far_from_the_origin(self, dtype, shift):
        feature = (shift + torch.tensor([[0.0], [0.25], [8.0], [8.25], [8.5]])).to(dtype)
        side = two_means(feature)
        assert side.tolist() in ([False] * 2 + [True] * 3, [True] * 2 + [False] * 3)

    @pytest.mark.parametrize('rows', [2, 9])
    def test_equal_features_are_divided_evenly(self, rows):
        assert two_means(torch.full((rows, 3), 0.1)).sum() == rows // 2
