import numpy as np
import pytest
import torch

from mmselfsup_invp.embedding import Embedding
from mmselfsup_invp.embedding import embedding as module

from ..toy import rows


def make(features):
    return Embedding(features.numpy(), [f'{row}.jpg' for row in range(len(features))])


@pytest.fixture(params=[4096, 7], ids=['one block', 'blocks'])
def embedding(request, monkeypatch):
    """Of 50 images, of which 40 to 43 are copies of 0 to 3."""
    monkeypatch.setattr(module, 'QUERIES', request.param)
    monkeypatch.setattr(module, 'default_elements', lambda device: request.param**2)
    features = rows(50)
    features[40:44] = features[:4]
    return make(features)


def similarities(embedding):
    features = torch.from_numpy(embedding.features)
    return features @ features.T


def test_neighbours_are_the_most_similar_others(embedding):
    found = embedding.neighbours(6)
    expected = similarities(embedding).fill_diagonal_(-torch.inf).sort(dim=1, descending=True)
    torch.testing.assert_close(found.similarity, expected.values[:, :6])
    torch.testing.assert_close(similarities(embedding).gather(1, found.index), found.similarity)
    assert not (found.index == torch.arange(50)[:, None]).any()
    with pytest.raises(ValueError, match='m = 50'):
        embedding.neighbours(50)


def test_a_search_ranks_all_images(embedding):
    found = embedding.search(embedding.features[10:20], 3)
    assert found.index[:, 0].tolist() == [*range(10, 20)]
    torch.testing.assert_close(found.similarity, similarities(embedding)[10:20].topk(3).values)


@pytest.mark.parametrize('threshold', [1.0, 0.5, 0])
def test_duplicates_are_all_pairs_above_the_threshold(embedding, threshold):
    found = embedding.duplicates(threshold)
    scores = similarities(embedding)
    upper = torch.ones_like(scores).triu(diagonal=1).bool()
    expected = (upper & (scores >= threshold - 1e-6)).nonzero()
    assert sorted(found.rows.tolist()) == expected.tolist()
    assert len(expected) >= 4 and (found.rows[:, 0] < found.rows[:, 1]).all()
    torch.testing.assert_close(found.similarity, scores[tuple(found.rows.T)])
    assert found.similarity.equal(found.similarity.sort(descending=True).values)


def test_images_without_duplicates_have_no_pairs():
    found = make(torch.eye(8)).duplicates(0.9)
    assert found.rows.shape == (0, 2) and len(found.similarity) == 0


def test_collapsed_features_are_not_listed_pair_by_pair(monkeypatch):
    monkeypatch.setattr(module, 'MAX_PAIRS', 20)
    with pytest.raises(ValueError, match='Over 20 pairs .* have collapsed'):
        make(torch.ones(8, 4) / 2).duplicates(0.98)


@pytest.mark.parametrize('threshold', [-0.1, 1.5])
def test_a_threshold_is_a_cosine(embedding, threshold):
    with pytest.raises(ValueError, match='threshold'):
        embedding.duplicates(threshold)


def test_clusters_are_those_of_the_data(monkeypatch):
    """Three groups of 30, 20 and 10 images, numbered by size; also from a sample of them."""
    centre = torch.eye(16)[:3].repeat_interleave(torch.tensor([10, 30, 20]), dim=0)
    embedding = make(torch.nn.functional.normalize(centre + rows(60) / 20))
    expected = torch.tensor([2] * 10 + [0] * 30 + [1] * 20)
    for sample in (256, 10):
        monkeypatch.setattr(module, 'CLUSTER_SAMPLE', sample)
        found = [embedding.clusters(3, seed) for seed in range(3)]
        assert all(one.label.equal(expected) for one in found)
    features = torch.from_numpy(embedding.features)
    unit = torch.nn.functional.normalize(torch.eye(16)[[1, 2, 0]])
    torch.testing.assert_close(
        found[0].similarity, (features * unit[expected]).sum(dim=1), atol=0.05, rtol=0
    )


def test_clusters_are_deterministic_and_not_empty(embedding):
    one, two = embedding.clusters(5, seed=3), embedding.clusters(5, seed=3)
    assert one.label.equal(two.label) and one.similarity.equal(two.similarity)
    sizes = one.label.bincount(minlength=5)
    assert sizes.min() > 0 and sizes.equal(sizes.sort(descending=True).values)
    with pytest.raises(ValueError, match='there are 50 images'):
        embedding.clusters(51)


def test_features_are_not_changed(embedding):
    before = embedding.features.copy()
    embedding.neighbours(3), embedding.clusters(4), embedding.duplicates(0.9)
    np.testing.assert_array_equal(embedding.features, before)
