"""Classification by weighted k nearest neighbours."""

import torch
from torch import Tensor

from ..ops import top_m
from ..ops.checks import require_length, require_range
from ..options import PositiveFloat, check_option

# Queries in a block, which bounds the size of the votes, (queries, classes).
QUERY_BATCH = 512


@torch.no_grad()
def knn_predict(
    query: Tensor,
    gallery: Tensor,
    label: Tensor,
    num_classes: int,
    k: int = 200,
    temperature: float = 0.07,
) -> Tensor:
    """Classify by a weighted vote of the ``k`` most similar gallery features.

    A neighbour with similarity s votes for its class with ``exp(s / temperature)``: the protocol
    of NPID (`arXiv:1805.01978 <https://arxiv.org/abs/1805.01978>`_, section 3.4), which the
    official InvP code follows with k = 200 and temperature 0.07.

    Args:
        query (Tensor): Float, unit rows, shape ``(Q, D)``.
        gallery (Tensor): Float, unit rows, shape ``(N, D)``.
        label (Tensor): int64, shape ``(N,)``, classes of the gallery from 0.
        num_classes (int): Classes C.
        k (int): Number of neighbours, 1 to N. Defaults to 200.
        temperature (float): Positive; the lower, the more the nearest neighbours weigh. Defaults
            to 0.07.

    Returns:
        Tensor: int64, shape ``(Q,)``, the class with the most votes.

    Raises:
        ValueError: If the lengths differ, ``k`` is not within 1 to N or ``temperature`` not
            positive.

    Example:
        >>> gallery = torch.eye(2)
        >>> knn_predict(torch.tensor([[0.6, 0.8]]), gallery, torch.tensor([0, 1]), 2, k=2)
        tensor([1])
    """
    require_length('label', label, len(gallery), 'row of the gallery')
    check_option('knn_predict', 'temperature', temperature, PositiveFloat)
    require_range('k', k, 1, len(gallery), f'the gallery has {len(gallery)} features')
    predictions = []
    for block in query.split(QUERY_BATCH):
        similarity, index = top_m(block, gallery, k, sort=False)
        # Relative to the best neighbour, so that a small temperature cannot overflow.
        weight = ((similarity - similarity.amax(dim=1, keepdim=True)) / temperature).exp()
        votes = weight.new_zeros(len(block), num_classes)
        predictions.append(votes.scatter_add_(1, label[index], weight).argmax(dim=1))
    return torch.cat(predictions)


def knn_accuracy(
    query: Tensor,
    query_label: Tensor,
    gallery: Tensor,
    gallery_label: Tensor,
    k: int = 200,
    temperature: float = 0.07,
) -> float:
    """Percentage of queries that :func:`knn_predict` classifies correctly.

    ``query_label`` is int64 of shape ``(Q,)``; the other arguments are those of
    :func:`knn_predict`.
    """
    num_classes = int(max(gallery_label.max(), query_label.max())) + 1
    predicted = knn_predict(query, gallery, gallery_label, num_classes, k, temperature)
    return (predicted == query_label).float().mean().item() * 100
