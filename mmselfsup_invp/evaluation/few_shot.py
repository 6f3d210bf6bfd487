"""Classification of features from a few labelled images of each class."""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def few_shot_accuracy(
    query: Tensor,
    query_label: Tensor,
    gallery: Tensor,
    gallery_label: Tensor,
    num_labels: int,
    num_draws: int = 100,
    seed: int = 0,
) -> float:
    """Mean accuracy of the nearest class mean over random draws of the labelled images.

    A query gets the class whose mean of the labelled features has the highest cosine similarity,
    the classifier of prototypical networks (`arXiv:1703.05175
    <https://arxiv.org/abs/1703.05175>`_) on frozen features. With few labels the accuracy depends
    on which images are labelled, hence the many draws; equal seeds draw the same images.

    Args:
        query (Tensor): Float, unit rows, shape ``(Q, D)``.
        query_label (Tensor): int64, shape ``(Q,)``.
        gallery (Tensor): Float, unit rows, shape ``(N, D)``; the labelled images are drawn from it.
        gallery_label (Tensor): int64, shape ``(N,)``, classes from 0.
        num_labels (int): Labelled images of each class, at least 1.
        num_draws (int): Number of draws. Defaults to 100.
        seed (int): Seed of the draws. Defaults to 0.

    Returns:
        float: Percentage of queries that are classified correctly.

    Raises:
        ValueError: If a class has fewer than ``num_labels`` images.

    Example:
        >>> label = torch.arange(2)
        >>> few_shot_accuracy(torch.eye(2), label, torch.eye(2), label, num_labels=1)
        100.0
    """
    members = [(gallery_label == label).nonzero()[:, 0] for label in gallery_label.unique()]
    fewest = min(map(len, members))
    if not 1 <= num_labels <= fewest:
        raise ValueError(
            f'num_labels must be from 1 to {fewest}, the size of the smallest class; found '
            f'{num_labels}.'
        )
    classes = torch.stack([gallery_label[rows[0]] for rows in members])
    generator = torch.Generator().manual_seed(seed)
    correct = 0.0
    for _ in range(num_draws):
        drawn = [
            rows[torch.randperm(len(rows), generator=generator)[:num_labels].to(rows.device)]
            for rows in members
        ]
        means = F.normalize(gallery[torch.stack(drawn)].mean(dim=1), dim=1)
        predicted = classes[(query @ means.T).argmax(dim=1)]
        correct += (predicted == query_label).float().mean().item()
    return correct / num_draws * 100
