"""The contrast between several views of the same images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import collectives
from .search.products import disable_autocast
from .similarity import masked_logsumexp


def view_contrast_loss(views: Tensor, temperature: float) -> Tensor:
    """Recognise the other views of an image among the views of all images of a batch.

    For view v of image i, the mean over the other views w of ``-log(e_vw / (e_vw + sum_n e_vn))``,
    where ``e_vw = exp(s_vw / t)`` and n runs over all views of all other images, of every process.
    With two views this is NT-Xent of `SimCLR <https://arxiv.org/abs/2002.05709>`_ (equation 1),
    with more the sum over all pairs of views of `CMC <https://arxiv.org/abs/1906.05849>`_
    (section 3.2).

    Args:
        views (Tensor): Float, unit rows, shape ``(V, B, D)`` with two or more views. The gradient
            flows to all of them, also to those of other processes.
        temperature (float): t, positive.

    Returns:
        Tensor: float32, shape ``(V, B)``.

    Raises:
        ValueError: If there is only one view.

    Example:
        >>> views = torch.eye(2).expand(2, 2, 2)
        >>> view_contrast_loss(views, temperature=1.0)
        tensor([[0.5514, 0.5514],
                [0.5514, 0.5514]])
    """
    num, batch, dim = views.shape
    if num < 2:
        raise ValueError(
            'The contrast between views needs two or more views of an image, the pipeline gives '
            "one: dict(type='AugmentedViews', num_views=2, ...)."
        )
    views = views.float()
    with disable_autocast(views.device):
        # Images of all processes, (W * B, V, D): the rows of an image follow one another.
        images = collectives.gather_with_gradient(views.transpose(0, 1))
        similarity = views @ images.flatten(0, 1).T
        own = views.transpose(0, 1) @ views.permute(1, 2, 0)
    image = torch.arange(len(images), device=views.device)
    anchor = image[collectives.rank() * batch :][:batch]
    same_image = (anchor[:, None] == image).repeat_interleave(num, dim=1).repeat(num, 1)
    others = masked_logsumexp(similarity.flatten(0, 1), same_image, temperature).view(num, batch)
    loss = F.softplus(others[..., None] - own.transpose(0, 1) / temperature)
    same_view = torch.eye(num, dtype=torch.bool, device=views.device)[:, None]
    return loss.masked_fill(same_view, 0).sum(dim=2) / (num - 1)
