import pytest
import torch

from mmselfsup_invp.memory import SelfLabels


def test_initial_labels_are_equally_many_of_each_class():
    labels = SelfLabels(num_classes=3, num_heads=2, length=7).labels
    assert labels.shape == (7, 2) and labels.dtype == torch.int64
    for column in labels.T:
        assert column.bincount().tolist() == [3, 2, 2]


def test_heads_have_labels_of_their_own():
    labels = SelfLabels(num_classes=5, num_heads=2, length=40).labels
    assert not torch.equal(*labels.T)


def test_new_labels_of_one_head_leave_the_others():
    labels = SelfLabels(3, 2, length=6)
    before, new = labels.labels.clone(), torch.tensor([2, 2, 2, 0, 0, 1])
    labels.relabel(1, new)
    assert torch.equal(labels.labels[:, 1], new)
    assert torch.equal(labels.labels[:, 0], before[:, 0])


def test_fewer_images_than_classes_are_refused():
    message = 'num_classes = 8 is outside the valid range 1 to 7: 7 images .* head and memory'
    with pytest.raises(ValueError, match=message):
        SelfLabels(8, 1, length=7)
    SelfLabels(7, 1, length=7)


@pytest.mark.parametrize('name', ['num_classes', 'num_heads'])
def test_wrong_options_are_named(name):
    with pytest.raises(ValueError, match=f'{name} = 0 is not valid'):
        SelfLabels(**{name: 0})


def test_the_script_for_imagenet_is_the_default():
    labels = SelfLabels()
    assert (labels.num_classes, labels.num_heads, len(labels)) == (3000, 10, 0)
