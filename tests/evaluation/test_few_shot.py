import pytest
import torch
from torch.nn import functional as F

from mmselfsup_invp.evaluation import few_shot_accuracy


def features(num, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(num) % 3
    centre = torch.randn(3, dim, generator=generator)
    noise = torch.randn(num, dim, generator=generator)
    return F.normalize(centre[label] + noise, dim=1), label


def reference(query, query_label, gallery, gallery_label, num_labels, num_draws, seed):
    """The same draws, one query and one class at a time."""
    generator = torch.Generator().manual_seed(seed)
    correct = 0
    for _ in range(num_draws):
        means = []
        for label in range(3):
            rows = [row for row, of in enumerate(gallery_label.tolist()) if of == label]
            drawn = torch.randperm(len(rows), generator=generator)[:num_labels].tolist()
            mean = sum(gallery[rows[number]] for number in drawn) / num_labels
            means.append(mean / mean.norm())
        for row, label in zip(query, query_label.tolist(), strict=True):
            similarity = [float(row @ mean) for mean in means]
            correct += similarity.index(max(similarity)) == label
    return correct / (num_draws * len(query)) * 100


@pytest.mark.parametrize('num_labels', [1, 3])
def test_accuracy_equals_that_of_a_plain_loop(num_labels):
    gallery, query = features(30), features(12, seed=1)
    found = few_shot_accuracy(*query, *gallery, num_labels, num_draws=5, seed=2)
    assert found == pytest.approx(reference(*query, *gallery, num_labels, 5, seed=2), abs=1e-3)
    assert 0 < found < 100


def test_all_labels_give_the_class_means_of_the_gallery():
    gallery, gallery_label = features(30)
    query, query_label = features(12, seed=1)
    means = torch.stack([gallery[gallery_label == label].mean(dim=0) for label in range(3)])
    predicted = (query @ F.normalize(means, dim=1).T).argmax(dim=1)
    expected = (predicted == query_label).float().mean().item() * 100
    found = few_shot_accuracy(query, query_label, gallery, gallery_label, num_labels=10)
    assert found == pytest.approx(expected, abs=1e-3)


def test_classes_need_not_be_consecutive():
    gallery, label = features(30)
    query, query_label = features(12, seed=1)
    found = few_shot_accuracy(query, query_label, gallery, label, 2)
    spread = few_shot_accuracy(query, 7 * query_label, gallery, 7 * label, 2)
    assert found == spread


@pytest.mark.parametrize('num_labels', [0, 11])
def test_a_number_of_labels_that_a_class_does_not_have_is_refused(num_labels):
    gallery = features(30)
    with pytest.raises(ValueError, match=f'from 1 to 10.*found {num_labels}'):
        few_shot_accuracy(*features(12), *gallery, num_labels)
