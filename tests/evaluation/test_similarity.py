import numpy as np
import pytest
import torch

from mmselfsup_invp.evaluation import similarity_distribution, similarity_metrics

from .. import toy


def by_loops(features, labels, num_neighbours):
    """Both distributions over all images, all of the others drawn, as loops in float64."""
    rows = features.double().tolist()
    same, other = [], []
    for query, row in enumerate(rows):
        found = {True: [], False: []}
        for number, candidate in enumerate(rows):
            if number != query:
                product = sum(a * b for a, b in zip(row, candidate, strict=True))
                found[labels[number] == labels[query]].append(product)
        same += sorted(found[True], reverse=True)[:num_neighbours]
        other += sorted(found[False], reverse=True)[:num_neighbours]
    return torch.tensor(same), torch.tensor(other)


@pytest.mark.parametrize('num_neighbours', [1, 4])
def test_equals_loops_where_all_others_are_drawn(num_neighbours):
    features, labels = toy.rows(40, 6), torch.arange(40) * 7 % 3
    found = similarity_distribution(features, labels, num_neighbours)
    expected = by_loops(features, labels.tolist(), num_neighbours)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == (40 * num_neighbours,)
        torch.testing.assert_close(ours, theirs)


def test_the_nearest_are_picked_among_those_drawn():
    """With d of n others drawn, the most similar of all is found in d / n of the cases."""
    features, labels = toy.rows(300, 8), torch.arange(300) % 2
    nearest = similarity_distribution(features, labels, 1)[1]
    drawn = similarity_distribution(
        features, labels, 1, num_others=30, generator=torch.Generator().manual_seed(1)
    )[1]
    assert (drawn <= nearest).all()
    assert (drawn == nearest).float().mean().item() == pytest.approx(30 / 150, abs=0.07)


def test_queries_are_drawn_and_the_seed_decides():
    features, labels = toy.rows(60, 6), torch.arange(60) % 3

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return similarity_distribution(features, labels, 2, 10, 7, generator)

    first, again, another = draw(0), draw(0), draw(1)
    assert first[0].shape == first[1].shape == (14,)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], another[0])


def test_images_of_small_classes_are_no_queries():
    features, labels = toy.rows(12, 6), torch.tensor([0] * 5 + [1] * 5 + [2] * 2)
    same, _ = similarity_distribution(features, labels, num_neighbours=4)
    assert same.shape == (10 * 4,)


@pytest.mark.parametrize(
    ('labels', 'options', 'message'),
    [
        (torch.zeros(12, dtype=torch.int64), {}, 'No image has 5 others of its class'),
        (torch.arange(12), {}, '12 images in 12 classes'),
        (torch.zeros(11, dtype=torch.int64), {}, 'each of the 12 features'),
        (torch.zeros(12, dtype=torch.int64), dict(num_others=3), 'valid range 1 to 3'),
    ],
)
def test_what_cannot_be_measured_is_refused(labels, options, message):
    with pytest.raises(ValueError, match=message):
        similarity_distribution(toy.rows(12, 6), labels, **options)


def test_figures_of_two_distributions():
    generator = torch.Generator().manual_seed(0)
    same, other = torch.rand(40, generator=generator) + 0.3, torch.rand(70, generator=generator)
    other[:5] = same[:5]  # Ties count half.
    found = similarity_metrics(same, other, num_bins=10)
    wins = (same[:, None] > other).double() + (same[:, None] == other).double() / 2
    assert found['auroc'] == pytest.approx(100 * wins.mean().item())
    edges = np.linspace(other.min().item(), same.max().item(), 11)
    shares = [np.histogram(part.double().numpy(), edges)[0] / len(part) for part in (same, other)]
    assert found['overlap'] == pytest.approx(100 * np.minimum(*shares).sum())
    assert found['same'] == pytest.approx(same.mean().item())
    assert found['other'] == pytest.approx(other.mean().item())


def test_figures_where_nothing_or_everything_differs():
    ones, zeros = torch.ones(4), torch.zeros(3)
    assert similarity_metrics(ones, ones) == dict(auroc=50, overlap=100, same=1, other=1)
    assert similarity_metrics(ones, zeros) == dict(auroc=100, overlap=0, same=1, other=0)
