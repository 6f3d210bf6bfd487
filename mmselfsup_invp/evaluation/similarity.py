"""Similarity of images to their own class and to other classes: Figure 2a of InvP."""

import torch
from torch import Tensor

from ..ops.checks import require_features, require_range


@torch.no_grad()
def similarity_distribution(
    features: Tensor,
    labels: Tensor,
    num_neighbours: int = 5,
    num_others: int = 1500,
    num_queries: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Similarity of images to the nearest of their class and to the nearest of other classes.

    Figure 2a of InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_): for each query the
    cosine similarity to its nearest neighbours of the same class, and to the nearest among images
    drawn at random from the other classes, of which there are many more. The less the two
    distributions overlap, the better.

    Args:
        features (Tensor): Float, unit rows, shape ``(N, D)``.
        labels (Tensor): int64, shape ``(N,)``, true classes.
        num_neighbours (int): n, nearest neighbours on either side. Defaults to 5 (the paper).
        num_others (int): Images of other classes to draw for each query; all of them where they are
            fewer. Defaults to 1500 (the paper).
        num_queries (int, optional): Queries Q to draw; all where there are fewer. Images whose
            class has no more than ``num_neighbours`` images are no queries. Defaults to None, all.
        generator (torch.Generator, optional): CPU generator of the draws. Defaults to None, the
            global one.

    Returns:
        tuple[Tensor, Tensor]: Similarity to the same class and to others, each float32 of shape
        ``(Q * num_neighbours,)``, the values of a query in descending order.

    Raises:
        ValueError: If the lengths differ, or no image can be a query: its class, or the rest
            (``num_others`` included), has too few images.

    Example:
        >>> features = torch.eye(2).repeat_interleave(3, dim=0)
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> same, other = similarity_distribution(features, labels, num_neighbours=2)
        >>> same.unique().tolist(), other.unique().tolist()
        ([1.0], [0.0])
    """
    require_features('features', features)
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f'labels must be one for each of the {len(features)} features, found the shape '
            f'{tuple(labels.shape)}.'
        )
    why = 'the nearest are taken among num_others images'
    require_range('num_neighbours', num_neighbours, 1, num_others, why)
    features, labels = features.float().cpu(), labels.cpu()
    same_parts, other_parts = [], []
    for query in _draw_queries(labels, num_neighbours, num_queries, generator).tolist():
        similarity = features @ features[query]
        same = labels == labels[query]
        others = (~same).nonzero().squeeze(1)
        drawn = others[torch.randperm(len(others), generator=generator)[:num_others]]
        same[query] = False
        same_parts.append(similarity[same].topk(num_neighbours).values)
        other_parts.append(similarity[drawn].topk(num_neighbours).values)
    return torch.cat(same_parts), torch.cat(other_parts)


def _draw_queries(
    labels: Tensor, num_neighbours: int, num: int | None, generator: torch.Generator | None
) -> Tensor:
    """Images with enough others of their class, and enough of other classes."""
    _, group, count = labels.unique(return_inverse=True, return_counts=True)
    members = count[group]
    enough = (members > num_neighbours) & (len(labels) - members >= num_neighbours)
    queries = enough.nonzero().squeeze(1)
    if not len(queries):
        raise ValueError(
            f'No image has {num_neighbours} others of its class and {num_neighbours} of other '
            f'classes: there are {len(labels)} images in {len(count)} classes. Lower '
            'num_neighbours or give more images.'
        )
    if num is None or num >= len(queries):
        return queries
    return queries[torch.randperm(len(queries), generator=generator)[:num]]


def similarity_metrics(same: Tensor, other: Tensor, num_bins: int = 60) -> dict[str, float]:
    """Separation of two distributions of similarities.

    Args:
        same (Tensor): Float, shape ``(P,)``, of images of one class; see
            :func:`similarity_distribution`.
        other (Tensor): Float, shape ``(Q,)``, of images of different classes.
        num_bins (int): Of the histograms for ``overlap``, from the lowest to the highest value.
            Defaults to 60.

    Returns:
        dict[str, float]: ``auroc``: area under the ROC curve, in percent, 50 for chance;
        ``overlap``: the common area of the histograms, in percent; ``same``, ``other``: the means.

    Example:
        >>> similarity_metrics(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2]))['auroc']
        100.0
    """
    # The share of pairs in the right order, ties counted half (Mann and Whitney).
    above = torch.searchsorted(other.sort().values, same).double()
    not_below = torch.searchsorted(other.sort().values, same, right=True).double()
    low, high = (value.item() for value in torch.cat([same, other]).aminmax())
    edges = torch.linspace(low, max(high, low + 1e-6), num_bins + 1, dtype=torch.float64)
    shares = [torch.histogram(part.double(), edges)[0] / len(part) for part in (same, other)]
    return dict(
        auroc=100 * ((above + not_below) / 2).mean().item() / len(other),
        overlap=100 * torch.minimum(*shares).sum().item(),
        same=same.mean().item(),
        other=other.mean().item(),
    )
