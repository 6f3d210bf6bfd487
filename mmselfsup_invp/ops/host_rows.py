"""A bank in host memory that is searched by a device."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .search import BankRows, Neighbours, merge, part_of, search_rows
from .search.request import Request
from .similarity import gathered_products, logsumexp_blocks, softmax_sum_blocks, weighted_rows


class HostRows(BankRows):
    """Rows in host memory, of which the device holds ``chunk_rows`` at a time.

    A search copies every chunk to the device of the queries once, ``N * D * bytes`` in all, and
    merges the nearest rows exactly. Single rows are read, and summed with weights, on the host:
    only their numbers and the result cross the bus, and the device waits for them.

    Args:
        rows (Tensor): Float, shape ``(N, D)``, on the CPU, pinned where the device is a GPU.
        chunk_rows (int): Rows that are copied at a time.
        device (torch.device): Device of the queries.
    """

    def __init__(self, rows: Tensor, chunk_rows: int, device: torch.device) -> None:
        super().__init__(len(rows), rows.size(1), rows.dtype, device)
        self.rows = rows
        self.chunk_rows = chunk_rows

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.rows[index.to(self.rows.device)].to(index.device)

    def search(self, request: Request, backend: str) -> Neighbours:
        none = (len(request.query), 0)
        index = torch.empty(none, dtype=torch.int64, device=self.device)
        best = Neighbours(torch.empty(none, device=self.device), index)
        for start, chunk in self._chunks(self.chunk_rows):
            found = search_rows(part_of(request, chunk, start), backend)
            found = Neighbours(found.similarity, found.index + start)
            both = (torch.cat(pair, dim=1) for pair in zip(best, found, strict=True))
            best = merge(request, Neighbours(*both))
        return best

    def products(self, query: Tensor, index: Tensor) -> Tensor:
        found = gathered_products(self._on_host(query), self.rows, self._on_host(index))
        return found.to(query.device)

    def weighted_sum(self, weight: Tensor, index: Tensor) -> Tensor:
        found = weighted_rows(self._on_host(weight), self.rows, self._on_host(index))
        return found.to(weight.device)

    def logsumexp(self, query: Tensor, temperature: float, columns: int) -> Tensor:
        return logsumexp_blocks(query, self._blocks(columns), temperature)

    def softmax_sum(self, query: Tensor, total: Tensor, temperature: float, columns: int) -> Tensor:
        return softmax_sum_blocks(query, self._blocks(columns), total, temperature)

    def class_sums(self, label: Tensor, num_classes: int) -> Tensor:
        total = torch.zeros(num_classes, self.size(1), device=label.device)
        for start, chunk in self._chunks(self.chunk_rows):
            total.index_add_(0, label[start : start + len(chunk)], chunk.to(total))
        return total

    def _on_host(self, values: Tensor) -> Tensor:
        return values.to(self.rows.device)

    def _blocks(self, columns: int) -> Iterator[Tensor]:
        return (chunk for _, chunk in self._chunks(min(columns, self.chunk_rows)))

    def _chunks(self, length: int) -> Iterator[tuple[int, Tensor]]:
        """First row and rows of each chunk, on the device; the host does not wait for the copy."""
        for start in range(0, len(self), length):
            chunk = self.rows[start : start + length]
            yield start, chunk.to(self.device, non_blocking=True)
