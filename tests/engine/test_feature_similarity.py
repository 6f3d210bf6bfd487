import pytest
import torch
from torch import nn

from mmselfsup_invp.engine.hooks.feature_similarity import (
    DECAY,
    FeatureSimilarity,
    mean_similarity,
)

from .. import toy


class Neck(nn.Module):
    def forward(self, feature):
        return [feature]


def mean_over_pairs(feature):
    """The definition, pair by pair, in float64."""
    unit = [one.double() / one.double().norm() for one in feature]
    pairs = [float(a @ b) for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize('shift', [0.0, 1.0, 30.0])
def test_equals_the_mean_over_pairs(shift):
    feature = torch.randn(7, 5) + shift
    found = mean_similarity(feature)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(mean_over_pairs(feature), abs=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_equal_features_and_zeros_are_alike(dtype):
    for feature in (toy.rows(1).expand(6, -1) * 3, torch.zeros(6, toy.DIM)):
        assert mean_similarity(feature.to(dtype)).item() == pytest.approx(1, abs=1e-5)


def test_opposite_features_are_not_alike():
    assert mean_similarity(torch.tensor([[2.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-1)


def test_later_batches_have_more_weight():
    neck = Neck()
    similarity = FeatureSimilarity(neck)
    batches = [torch.randn(6, 4) + 2 * number for number in range(5)]
    for batch in batches:
        neck(batch)
    weights = [DECAY**age for age in reversed(range(5))]
    expected = sum(w * mean_over_pairs(b) for w, b in zip(weights, batches, strict=True))
    assert similarity.compute() == pytest.approx(expected / sum(weights), abs=1e-6)
    neck(batches[0])  # compute() has started anew.
    assert similarity.compute() == pytest.approx(mean_over_pairs(batches[0]), abs=1e-6)


def test_only_batches_of_training_count():
    neck, batch = Neck(), torch.randn(6, 4)
    similarity = FeatureSimilarity(neck)
    neck.eval()(batch)
    neck.train()
    with torch.no_grad():
        neck(batch)
    neck(batch[:1])
    assert similarity.compute() is None
    neck(batch[:2])
    assert similarity.compute() == pytest.approx(mean_over_pairs(batch[:2]), abs=1e-6)
    similarity.remove()
    neck(batch)
    assert similarity.compute() is None
