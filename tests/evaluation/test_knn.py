import math

import pytest
import torch

from mmselfsup_invp.evaluation import knn, knn_accuracy, knn_predict

from .. import toy


def by_votes(query, gallery, label, num_classes, k, temperature):
    """The weighted vote as a double loop in float64; also the margin of the winner."""
    predicted, margins = [], []
    for one in query.double():
        similarity = [float(one @ other) for other in gallery.double()]
        nearest = sorted(range(len(gallery)), key=lambda i: -similarity[i])[:k]
        votes = [0.0] * num_classes
        for i in nearest:
            votes[label[i]] += math.exp(similarity[i] / temperature)
        ranked = sorted(votes)
        predicted.append(votes.index(ranked[-1]))
        margins.append(1 - ranked[-2] / ranked[-1])
    return torch.tensor(predicted), min(margins)


@pytest.mark.parametrize('temperature', [0.07, 0.5, 10.0])
@pytest.mark.parametrize('k', [1, 3, 20, 60])
def test_equals_a_double_loop(k, temperature):
    gallery, query = toy.rows(60, 5, seed=0), toy.rows(30, 5, seed=1)
    label = torch.arange(60) * 7 % 4
    expected, margin = by_votes(query, gallery, label.tolist(), 4, k, temperature)
    assert margin > 1e-5  # No vote hangs on the last digit.
    assert torch.equal(knn_predict(query, gallery, label, 4, k, temperature), expected)


def test_weights_decide_and_not_only_numbers():
    """One close neighbour outvotes two far ones at a low temperature, and not at a high one."""
    gallery = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1, 1], [1, -1]]))
    query, label = torch.tensor([[1.0, 0.0]]), torch.tensor([0, 1, 1])
    assert knn_predict(query, gallery, label, 2, 3, 0.07).item() == 0
    assert knn_predict(query, gallery, label, 2, 3, 10.0).item() == 1


def test_a_tiny_temperature_does_not_overflow():
    gallery, query = toy.rows(30, seed=0), toy.rows(9, seed=1)
    label = torch.arange(30) % 3
    nearest = (query @ gallery.T).argmax(dim=1)
    assert torch.equal(knn_predict(query, gallery, label, 3, 10, 1e-4), label[nearest])


def test_queries_are_scored_in_blocks(monkeypatch):
    gallery, query = toy.rows(40, seed=0), toy.rows(23, seed=1)
    label = torch.arange(40) % 3
    whole = knn_predict(query, gallery, label, 3, 7)
    monkeypatch.setattr(knn, 'QUERY_BATCH', 5)
    assert torch.equal(knn_predict(query, gallery, label, 3, 7), whole)


def test_accuracy_is_the_percentage_of_hits():
    gallery, query = toy.rows(40, seed=0), toy.rows(50, seed=1)
    label, truth = torch.arange(40) % 3, torch.arange(50) % 4  # Class 3 is never in the gallery.
    expected, _ = by_votes(query, gallery, label.tolist(), 4, 9, 0.07)
    hits = (expected == truth).double().mean().item() * 100
    found = knn_accuracy(query, truth, gallery, label, 9, 0.07)
    assert found == pytest.approx(hits, abs=1e-4) and 0 < hits < 100


def test_a_gallery_is_its_own_best_match():
    rows, label = toy.rows(40), torch.arange(40) % 5
    assert knn_accuracy(rows, label, rows, label, 1) == 100


@pytest.mark.parametrize('labels', [39, 41])
def test_labels_of_another_gallery_are_refused(labels):
    rows = toy.rows(40)
    message = rf'label has the shape \({labels},\) where \(40,\) is needed: one entry for each row'
    with pytest.raises(ValueError, match=message):
        knn_predict(rows, rows, torch.zeros(labels, dtype=torch.int64), 5, 3)


@pytest.mark.parametrize('temperature', [0, -1.0])
def test_a_wrong_temperature_is_named(temperature):
    rows, label = toy.rows(40), torch.arange(40) % 5
    with pytest.raises(ValueError, match=f'temperature = {temperature} is not valid.* above 0'):
        knn_predict(rows, rows, label, 5, 3, temperature)


@pytest.mark.parametrize('k', [0, 41])
def test_a_wrong_k_is_named(k):
    rows, label = toy.rows(40), torch.arange(40) % 5
    with pytest.raises(ValueError, match=f'k = {k} is outside .* 1 to 40: the gallery has 40'):
        knn_predict(rows, rows, label, 5, k)
