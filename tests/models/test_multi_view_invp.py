import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.ops.view_contrast import view_contrast_loss

from .. import toy

IDS = (0, 5, 6, 7)


def model_of(**changes):
    torch.manual_seed(0)
    config = toy.model_config('MultiViewInvP', memory=dict(length=24))
    model = toy.build_model(toy.merged(config, changes))
    model.memory.rebuild_graph()
    return model


def views_of(num=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(len(IDS), 3, 16, 16, generator=generator) for _ in range(num)]


def embeddings(model, views):
    return model.embed(torch.cat(views)).unflatten(0, (len(views), -1))


@pytest.mark.parametrize('num', [2, 3])
def test_the_mean_of_the_views_is_the_query(num):
    model, views = model_of(view_weight=0.7), views_of(num)
    losses = model.loss(views, toy.samples(*IDS))
    model.memory.staged = None

    every = embeddings(model, views)
    query = F.normalize(every.mean(0))
    expected = model.head(query, torch.tensor(IDS), model.memory)
    expected['loss_view'] = 0.7 * view_contrast_loss(every, 0.07).mean()
    torch.testing.assert_close(losses, expected)


def test_the_mean_of_the_views_enters_the_bank():
    model, views = model_of(memory=dict(momentum=0.0)), views_of()
    model.loss(views, toy.samples(*IDS))
    model.memory.commit()
    query = F.normalize(embeddings(model, views).mean(0))
    torch.testing.assert_close(model.memory.bank[list(IDS)], query)


def test_weights_of_zero_leave_the_view_loss_alone():
    model, views = model_of(head=dict(lambda_ins=0, lambda_inv=0)), views_of()
    losses = model.loss(views, toy.samples(*IDS))
    assert losses['loss_ins'] == losses['loss_inv'] == 0
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    gradients = [one.grad.clone() for one in model.parameters()]

    model.zero_grad()
    view_contrast_loss(embeddings(model, views), 0.07).mean().backward()
    torch.testing.assert_close(gradients, [one.grad for one in model.parameters()])


def test_takes_a_branch():
    model = model_of(branch=toy.branch_config(memory=dict(length=24)), branch_weight=0.5)
    model.branch.memory.labels.copy_(torch.arange(24) % 4)
    views = views_of(2)
    losses = model.loss(views, toy.samples(*IDS))
    assert losses['loss_inter'] > 0
    query = F.normalize(embeddings(model, views).mean(0))
    torch.testing.assert_close(model.branch.memory.staged[1], query.detach())


def test_needs_two_views():
    with pytest.raises(ValueError, match='num_views=2'):
        model_of().loss(views_of(1), toy.samples(*IDS))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(view_weight=-1), 'view_weight = -1'),
        (dict(view_loss=dict(type='ViewContrastLoss', temperature=0)), 'temperature = 0'),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(toy.model_config('MultiViewInvP', **changes))
