"""Rows that are split over the processes of the default group of ``torch.distributed``."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.clustering import class_sums
from ..ops.collectives import exchange, gather, rank, total, world_size
from ..ops.search import BankRows, Neighbours, merge, part_of, search_rows
from ..ops.search.request import Request
from ..ops.similarity import bank_logsumexp, gathered_products, softmax_sum, weighted_rows

# Rows of each process that travel at a time when all rows are collected.
COLLECTED_ROWS = 2**16


@dataclass(frozen=True)
class Split:
    """The equal share, ``start`` to ``stop - 1``, of N = ``length`` rows that a process holds."""

    length: int
    rank: int
    world_size: int

    @classmethod
    def over_group(cls, length: int) -> 'Split | None':
        """Split rows over the default group; None for a single process."""
        if length < world_size():
            raise ValueError(
                f'{length} rows cannot be split over {world_size()} processes: use fewer '
                'processes, or shard=False.'
            )
        return cls(length, rank(), world_size()) if world_size() > 1 else None

    def starts(self) -> list[int]:
        """First row of each process, and N."""
        return [self.length * part // self.world_size for part in range(self.world_size + 1)]

    @property
    def start(self) -> int:
        """First row of this process."""
        return self.length * self.rank // self.world_size

    @property
    def stop(self) -> int:
        """The row behind the last one of this process."""
        return self.length * (self.rank + 1) // self.world_size

    @property
    def width(self) -> int:
        """Rows of the process that has most."""
        return -(-self.length // self.world_size)

    def local(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Place of rows in this process, int64, and whether they are here, bool.

        The place of other rows is any valid one.
        """
        own = (index >= self.start) & (index < self.stop)
        return (index - self.start).clamp(0, self.stop - self.start - 1), own

    def collect(self, rows: Tensor, device: torch.device, *, keep: bool = True) -> Tensor:
        """Collect the rows ``(n, ...)`` of all processes on the CPU; every process calls it.

        They travel between devices of this kind, because NCCL sends nothing from host memory.

        Returns ``(N, ...)``, or no rows if this process does not ``keep`` them.
        """
        whole = torch.empty((self.length * keep, *rows.shape[1:]), dtype=rows.dtype)
        for begin in range(0, self.width, COLLECTED_ROWS):
            count = min(COLLECTED_ROWS, self.width - begin)
            part = rows[begin : begin + count]
            padding = (0, 0) * (rows.dim() - 1) + (0, count - len(part))
            parts = gather(F.pad(part, padding).to(device)).cpu().split(count)
            if not keep:
                continue
            starts = self.starts()
            for part, first, end in zip(parts, starts, starts[1:], strict=False):
                stop = min(first + begin + count, end)
                whole[first + begin : stop] = part[: stop - first - begin]
        return whole


class ShardedRows(BankRows):
    """Rows of a :class:`Split`, which the processes read and search together.

    Every process calls a method at the same time with a tensor of the same shape, its own batch of
    queries or numbers. The processes gather the queries of all; each works on its own rows; the
    results return to the process that asked. Searches merge the nearest rows of all processes,
    which is exact; sums have terms of every process.

    With W processes, B queries of each, N rows of D values and m rows to find, a process holds
    ``N / W`` rows and computes ``W * B * N / W * D = B * N * D`` products, as without a split. It
    sends, and receives, in bytes:

    - search: ``(W - 1) * B * (4 * D + 8 * m)`` (12 instead of 8 from 2**31 rows on);
    - gradient of M similarities: ``(W - 1) * B * (12 * M + 4 * D)``;
    - M similarities that are not known from a search: ``(W - 1) * B * (4 * D + 12 * M)``;
    - M rows: ``(W - 1) * B * M * (8 + D * bytes)``.

    During a search it holds ``W * B * m`` candidates, 24 bytes each with those it sends.

    Args:
        rows (Tensor | BankRows): Rows of this process, shape ``(n, D)``.
        split (Split): Which they are.
    """

    def __init__(self, rows: Tensor | BankRows, split: Split) -> None:
        super().__init__(split.length, rows.size(1), rows.dtype, rows.device)
        self.rows = rows
        self.split = split

    def anchors(self) -> Tensor:
        """The rows of this process; its last one again where others have one more."""
        own = torch.arange(self.split.start, self.split.start + self.split.width)
        return own.clamp(max=self.split.stop - 1).to(self.device)

    def __getitem__(self, index: Tensor) -> Tensor:
        if not index.numel():
            return self.rows[index]
        found = self._own_rows(gather(index.flatten()))
        return _sum(exchange(found)).view(*index.shape, -1)

    def common(self, index: Tensor) -> Tensor:
        """Rows by number, where all processes ask for the same ones."""
        return total(self._own_rows(index))

    def search(self, request: Request, backend: str) -> Neighbours:
        labels = request.labels and (gather(request.labels[0]), request.labels[1])
        everyone = replace(request, query=gather(request.query), labels=labels)
        found = search_rows(part_of(everyone, self.rows, self.split.start), backend)
        # The parts have the same width, though one process may have fewer rows than another.
        width = min(request.m + (request.exclude is not None), self.split.width)
        missing = (0, width - found.index.size(1))
        number = torch.int32 if self.split.length <= 2**31 else torch.int64
        index = F.pad((found.index + self.split.start).to(number), missing)
        similarity = F.pad(found.similarity, missing, value=-torch.inf)
        parts = (exchange(part).transpose(0, 1).flatten(1) for part in (similarity, index))
        similarity, index = parts
        return merge(request, Neighbours(similarity, index.long()))

    def products(self, query: Tensor, index: Tensor) -> Tensor:
        place, own = self.split.local(gather(index))
        found = gathered_products(gather(query), self.rows, place)
        return _sum(exchange(found.masked_fill_(~own, 0)))

    def weighted_sum(self, weight: Tensor, index: Tensor) -> Tensor:
        place, own = self.split.local(gather(index))
        weight = gather(weight).masked_fill(~own, 0)
        return _sum(exchange(weighted_rows(weight, self.rows, place)))

    def logsumexp(self, query: Tensor, temperature: float, columns: int) -> Tensor:
        found = bank_logsumexp(gather(query), self.rows, temperature, columns)
        return exchange(found).logsumexp(dim=0)

    def softmax_sum(self, query: Tensor, total: Tensor, temperature: float, columns: int) -> Tensor:
        query, total = gather(query), gather(total)
        return _sum(exchange(softmax_sum(query, self.rows, total, temperature, columns)))

    def class_sums(self, label: Tensor, num_classes: int) -> Tensor:
        own = label[self.split.start : self.split.stop]
        return total(class_sums(self.rows, own, num_classes))

    def _own_rows(self, index: Tensor) -> Tensor:
        """Rows ``(n, D)`` by number; 0 where another process has them."""
        place, own = self.split.local(index)
        return self.rows[place].masked_fill(~own[:, None], 0)


def _sum(parts: Tensor) -> Tensor:
    """Add what the processes ``(W, ...)`` gave, of which one alone is not 0 for a single row."""
    return parts.sum(dim=0, dtype=parts.dtype)
