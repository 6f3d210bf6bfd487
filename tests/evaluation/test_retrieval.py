import pytest
import torch

from mmselfsup_invp.evaluation import retrieve

from .. import toy


def test_the_nearest_come_first_and_failures_are_marked():
    query, gallery = toy.rows(9, 5, seed=1), toy.rows(30, 5)
    query_label, label = torch.arange(9) % 3, torch.arange(30) % 3
    found = retrieve(query, gallery, query_label, label, k=4)
    right = 0
    for number in range(9):
        similarity = gallery @ query[number]
        order = similarity.argsort(descending=True)[:4]
        assert torch.equal(found.index[number], order)
        torch.testing.assert_close(found.similarity[number], similarity[order])
        for column, row in enumerate(order.tolist()):
            same = label[row] == query_label[number]
            assert found.failed[number, column] == (not same)
            right += int(same)
    assert found.precision == pytest.approx(100 * right / 36) and 0 < found.precision < 100


def test_without_labels_nothing_is_marked():
    found = retrieve(toy.rows(2, 5), toy.rows(30, 5), k=3)
    assert found.failed is None and found.precision is None and found.index.shape == (2, 3)


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match='m = 31 is outside the valid range 1 to 30'):
        retrieve(toy.rows(2, 5), toy.rows(30, 5), k=31)
