import math

import pytest
import torch
import torch.nn.functional as F

from mmselfsup_invp.ops.view_contrast import view_contrast_loss


def views_of(num=3, batch=5, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(num, batch, dim, generator=generator), dim=2)


def plain(views, temperature):
    """The formula, one pair of views at a time, in float64."""
    num, batch, _ = views.shape
    e = torch.einsum('vid,wjd->viwj', views.double(), views.double()).div(temperature).exp()
    loss = torch.zeros(num, batch, dtype=torch.float64)
    for v in range(num):
        for i in range(batch):
            others = sum(e[v, i, :, j].sum() for j in range(batch) if j != i)
            pairs = [e[v, i, w, i] for w in range(num) if w != v]
            loss[v, i] = sum(-(own / (own + others)).log() for own in pairs) / (num - 1)
    return loss


@pytest.mark.parametrize('num', [2, 3, 5])
@pytest.mark.parametrize('temperature', [0.07, 0.5])
def test_equals_the_formula(num, temperature):
    views = views_of(num)
    expected = plain(views, temperature).float()
    torch.testing.assert_close(view_contrast_loss(views, temperature), expected)


def test_two_views_give_nt_xent():
    views = views_of(2)
    every = views.flatten(0, 1)
    logits = (every @ every.T / 0.2).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.arange(10).roll(5), reduction='none')
    torch.testing.assert_close(view_contrast_loss(views, 0.2).flatten(), expected)


@pytest.mark.parametrize('num', [2, 4])
def test_gradient(num):
    views = views_of(num, batch=3)
    ours, reference = (views.clone().requires_grad_() for _ in range(2))
    view_contrast_loss(ours, 0.3).sum().backward()
    plain(reference, 0.3).sum().backward()
    torch.testing.assert_close(ours.grad, reference.grad)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_is_computed_in_float32_under_autocast(dtype):
    views = views_of()
    with torch.autocast('cpu', dtype):
        loss = view_contrast_loss(views, 0.07)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, view_contrast_loss(views, 0.07))


def test_views_of_16_bits():
    views = views_of().bfloat16()
    torch.testing.assert_close(
        view_contrast_loss(views, 0.07), view_contrast_loss(views.float(), 0.07)
    )


def test_equal_views_of_orthogonal_images():
    views = torch.eye(4).expand(3, 4, 4)
    expected = -math.log(math.exp(2) / (math.exp(2) + 9))
    torch.testing.assert_close(view_contrast_loss(views, 0.5), torch.full((3, 4), expected))


def test_a_single_image_has_nothing_to_be_told_from():
    views = views_of(3, batch=1).requires_grad_()
    loss = view_contrast_loss(views, 0.07)
    loss.sum().backward()
    assert not loss.any()
    assert not views.grad.any()


def test_needs_two_views():
    with pytest.raises(ValueError, match='num_views=2'):
        view_contrast_loss(views_of(1), 0.07)
