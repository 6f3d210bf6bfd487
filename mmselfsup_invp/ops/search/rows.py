"""Banks that are not one tensor on the device of the queries."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from .request import Neighbours, Request


class BankRows(ABC):
    """Rows of a bank that are held elsewhere: in host memory or by several processes.

    :func:`top_m`, :func:`bank_similarity`, :func:`full_logsumexp`, :func:`knn_graph` and
    :func:`cluster_means` take one in place of the tensor ``(N, D)``, with the same result up to the
    order of sums. It can be indexed by int64 tensors.

    Attributes:
        shape (torch.Size): ``(N, D)``.
        dtype (torch.dtype): Type of the stored rows.
        device (torch.device): Device of the queries, and of all results.
    """

    def __init__(self, length: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = torch.Size((length, dim))
        self.dtype = dtype
        self.device = device

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        """Number of dimensions, as of a matrix."""
        return 2

    def size(self, dim: int) -> int:
        """N or D."""
        return self.shape[dim]

    def is_floating_point(self) -> bool:
        """Whether the rows are features."""
        return self.dtype.is_floating_point

    def anchors(self) -> Tensor:
        """Rows whose neighbours this process finds when a graph is built, int64."""
        return torch.arange(len(self), device=self.device)

    @abstractmethod
    def __getitem__(self, index: Tensor) -> Tensor:
        """Rows by number: int64 of any shape gives ``(*shape, D)``."""

    def common(self, index: Tensor) -> Tensor:
        """Rows by number, where all processes ask for the same ones."""
        return self[index]

    @abstractmethod
    def search(self, request: Request, backend: str) -> Neighbours:
        """The result of :func:`top_m` in any order."""

    @abstractmethod
    def products(self, query: Tensor, index: Tensor) -> Tensor:
        """``query[b] . rows[index[b, j]]``, float32, shape of ``index``: ``(B, M)``."""

    @abstractmethod
    def weighted_sum(self, weight: Tensor, index: Tensor) -> Tensor:
        """``sum_j weight[b, j] * rows[index[b, j]]``, float32, ``(B, D)``."""

    @abstractmethod
    def logsumexp(self, query: Tensor, temperature: float, columns: int) -> Tensor:
        """``log sum_n exp(query[b] . rows[n] / temperature)``, float32, ``(B,)``."""

    @abstractmethod
    def softmax_sum(self, query: Tensor, total: Tensor, temperature: float, columns: int) -> Tensor:
        """``sum_n exp(query[b] . rows[n] / temperature - total[b]) * rows[n]``, ``(B, D)``."""

    @abstractmethod
    def class_sums(self, label: Tensor, num_classes: int) -> Tensor:
        """Sum of the rows with each label ``(N,)``, float32, ``(num_classes, D)``."""


def part_of(request: Request, bank: Tensor | BankRows, start: int) -> Request:
    """The same search in a part of the bank that begins at row ``start``.

    The part is not asked to leave rows out: :func:`merge` does so. It is therefore searched for one
    row more, or for all that it has.
    """
    labels = request.labels and (request.labels[0], request.labels[1][start : start + len(bank)])
    width = min(request.m + (request.exclude is not None), len(bank))
    return replace(request, bank=bank, m=width, exclude=None, labels=labels)


def merge(request: Request, found: Neighbours) -> Neighbours:
    """Select the ``m`` nearest of the rows that the parts of a bank have given, in any order."""
    similarity, index = found
    if request.exclude is not None:
        similarity = similarity.masked_fill(index == request.exclude[:, None], -torch.inf)
    return Neighbours(similarity, index).top(request.m, sort=False)
