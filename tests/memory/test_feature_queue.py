import pytest
import torch

from mmselfsup_invp.memory import FeatureQueue

from .tools import DTYPES, NOT_FINITE, rows


def queue_of(length=10, dim=4, **options):
    return FeatureQueue(dim, length, **options)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('batch', [1, 3, 4, 10])
def test_features_replace_the_oldest(dtype, batch):
    queue = queue_of(dtype=dtype)
    expected, images, oldest = queue.bank.clone(), [-1] * 10, 0
    for step in range(7):
        feature, sample_idx = rows(batch, seed=step), torch.arange(batch) + 100 * step
        slot = queue.push(feature, sample_idx)
        for position in range(batch):
            place = (oldest + position) % 10
            assert slot[position] == place
            expected[place] = feature[position].to(expected.dtype)
            images[place] = 100 * step + position
        oldest = (oldest + batch) % 10
        assert torch.equal(queue.bank, expected) and queue.bank.dtype == getattr(torch, dtype)
        assert queue.pointer == oldest and queue.sample_idx.tolist() == images


def test_unknown_images_are_minus_one():
    queue = queue_of()
    queue.push(rows(2), torch.tensor([4, 5]))
    queue.push(rows(9))
    assert queue.sample_idx.tolist() == [-1, 5, *[-1] * 8]


@pytest.mark.parametrize('bad', NOT_FINITE)
def test_a_feature_that_is_not_finite_leaves_the_old_one(bad):
    queue = queue_of()
    before, feature = queue.bank.clone(), rows(3)
    feature[1, 0] = bad
    assert queue.push(feature).tolist() == [0, 1, 2]
    assert torch.equal(queue.bank[[0, 2]], feature[[0, 2]])
    assert torch.equal(queue.bank[1], before[1])


def test_only_valid_features_are_written():
    queue = queue_of()
    before, feature = queue.bank.clone(), rows(3)
    queue.push(feature, valid=torch.tensor([False, True, False]))
    assert torch.equal(queue.bank[1], feature[1])
    assert torch.equal(queue.bank[[0, 2]], before[[0, 2]])


def test_features_keep_no_autograd_graph():
    queue = queue_of()
    queue.push(rows(2).requires_grad_() * 1)
    assert not queue.bank.requires_grad


def test_a_longer_batch_is_refused():
    with pytest.raises(ValueError, match='batch of 11 .* queue of 10: lower .*batch_size'):
        queue_of().push(rows(11))


def test_a_new_length_starts_anew():
    queue = queue_of()
    queue.push(rows(7), torch.arange(7))
    queue.resize(5)
    assert queue.pointer == 0 and queue.sample_idx.tolist() == [-1] * 5
    assert torch.equal(queue.bank, queue_of(5).bank)


def test_moco_is_the_default():
    queue = FeatureQueue()
    assert queue.bank.shape == (65536, 128) and queue.seed == 0


@pytest.mark.parametrize('option', [dict(init='zeros'), dict(feat_dim=0), dict(dtype='int8')])
def test_wrong_options_are_named(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        FeatureQueue(**option)
