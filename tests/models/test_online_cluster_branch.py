import pytest
import torch

from mmselfsup_invp import ops
from mmselfsup_invp.compat.host import MODELS

from .. import toy


def branch_of(length=24, **changes):
    branch = MODELS.build(toy.branch_config(**changes))
    branch.memory.fit(length)
    branch.memory.cluster(toy.rows(length, seed=1))
    return branch


def batch(count=5):
    return toy.rows(count, seed=2).requires_grad_(), torch.arange(count) * 3


@pytest.mark.parametrize('negatives', ['hard', 'semi_hard', 'random', 'semi_easy'])
@pytest.mark.parametrize('exclude_self', [False, True])
def test_the_loss_equals_a_hand_computation(negatives, exclude_self):
    branch = branch_of(negatives=negatives, exclude_self=exclude_self, pool_ratio=0.5)
    memory = branch.memory
    query, sample = batch()
    torch.manual_seed(3)
    losses = branch(query, sample, weight=0.25)

    torch.manual_seed(3)
    label = memory.labels[sample]
    positive = ops.sample_positive(memory.labels, label, sample if exclude_self else None)
    negative = ops.sample_negatives(
        negatives, query.detach(), memory.bank, memory.labels, label, 6, 0.5
    ).index
    plain = query.detach().clone().requires_grad_()
    cosine = (plain * memory.bank[positive]).sum(dim=1)
    others = torch.einsum('bd,bkd->bk', plain, memory.bank[negative])
    expected = 0.25 * ops.margin_nce(cosine, others, 0.2, -0.5).mean()
    torch.testing.assert_close(losses['loss_inter'], expected)
    torch.testing.assert_close(
        torch.autograd.grad(losses['loss_inter'], query)[0],
        torch.autograd.grad(expected, plain)[0],
    )
    assert losses['short_pools'] == 0


def test_labels_are_those_before_the_update():
    branch = branch_of()
    query, sample = batch()
    labels = branch.memory.labels.clone()
    branch(query, sample)
    assert torch.equal(branch.memory.labels, labels)
    assert torch.equal(branch.memory.staged[0], sample)
    assert torch.equal(branch.memory.staged[1], query)


def test_a_key_enters_the_memory_in_place_of_the_query():
    branch = branch_of()
    query, sample = batch()
    key = toy.rows(5, seed=9)
    branch(query, sample, key=key)
    assert torch.equal(branch.memory.staged[1], key)


@pytest.mark.parametrize(('weight', 'ramp'), [(0.0, 1.0), (1.0, 0.0)])
def test_without_weight_nothing_is_searched_but_the_memory_goes_on(weight, ramp, monkeypatch):
    branch = branch_of()
    branch.ramp = ramp
    monkeypatch.setattr(ops, 'sample_negatives', None)
    losses = branch(*batch(), weight=weight)
    assert losses['loss_inter'] == 0 and losses['short_pools'] == 0
    branch.memory.commit()
    assert branch.memory.label_change_ratio() is not None


def test_short_pools_are_counted():
    branch = branch_of()
    branch.memory.labels[:] = torch.tensor([0] * 20 + [1] * 4)
    losses = branch(toy.rows(4, seed=5), torch.tensor([0, 19, 20, 23]))
    assert losses['short_pools'] == 0.5  # 4 candidates for the first two, 6 are wanted.


def test_an_image_without_negatives_has_no_part():
    branch = branch_of()
    branch.memory.labels.fill_(2)
    query, sample = batch()
    losses = branch(query, sample)
    assert losses['loss_inter'] == 0 and losses['short_pools'] == 1
    (grad,) = torch.autograd.grad(losses['loss_inter'], query)
    assert not grad.any()


def test_without_the_hook_it_says_so():
    branch = MODELS.build(toy.branch_config())
    with pytest.raises(RuntimeError, match='ClusterMemory has no rows yet.*OnlineClusterHook'):
        branch(*batch())


def test_the_papers_settings_are_the_default():
    branch = MODELS.build(dict(type='OnlineClusterBranch', memory=dict(type='ClusterMemory')))
    assert (branch.num_negatives, branch.negatives, branch.pool_ratio) == (16384, 'semi_hard', 0.1)
    assert (branch.loss.temperature, branch.loss.margin) == (0.1, -0.5)
    assert branch.memory.num_clusters == 10000 and branch.memory.features.momentum == 0.5


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            dict(negatives='easy'),
            "negatives = 'easy' is not valid. It must be one of 'hard', 'semi_hard'",
        ),
        (dict(num_negatives=0), 'num_negatives = 0 is not valid'),
        (dict(pool_ratio=0.0), 'pool_ratio = 0.0 is not valid. It must be a finite number above 0'),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        branch_of(**option)
