"""Nearest training images of query images: Figure 9 of InterCLR."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops import top_m


@dataclass(frozen=True)
class Retrieval:
    """Result of :func:`retrieve`.

    Attributes:
        index (Tensor): int64, shape ``(Q, k)``, rows of the gallery, nearest first.
        similarity (Tensor): float32, shape ``(Q, k)``.
        failed (Tensor | None): bool, shape ``(Q, k)``, True where the class differs from that of
            the query; None without labels.
    """

    index: Tensor
    similarity: Tensor
    failed: Tensor | None

    @property
    def precision(self) -> float | None:
        """Percentage of images of the class of the query; None without labels."""
        return None if self.failed is None else (~self.failed).float().mean().item() * 100


@torch.no_grad()
def retrieve(
    query: Tensor,
    gallery: Tensor,
    query_label: Tensor | None = None,
    gallery_label: Tensor | None = None,
    k: int = 10,
) -> Retrieval:
    """Find the nearest images of the gallery for each query, and mark those of another class.

    Figure 9 of InterCLR (`arXiv:2008.11702 <https://arxiv.org/abs/2008.11702>`_) shows the ten
    nearest training images of validation images.

    Args:
        query (Tensor): Float, unit rows, shape ``(Q, D)``.
        gallery (Tensor): Float, unit rows, shape ``(N, D)``.
        query_label (Tensor, optional): int64, shape ``(Q,)``. Defaults to None.
        gallery_label (Tensor, optional): int64, shape ``(N,)``. Defaults to None.
        k (int): Number of images, 1 to N. Defaults to 10.

    Returns:
        Retrieval: The images, and which of them are of another class.

    Raises:
        ValueError: If ``k`` is not within 1 to N.

    Example:
        >>> found = retrieve(torch.eye(2), torch.eye(2), torch.arange(2), torch.tensor([0, 0]), k=1)
        >>> found.index.tolist(), found.failed.tolist(), found.precision
        ([[0], [1]], [[False], [True]], 50.0)
    """
    similarity, index = top_m(query, gallery, k)
    failed = None
    if query_label is not None and gallery_label is not None:
        failed = gallery_label[index] != query_label[:, None]
    return Retrieval(index, similarity, failed)
