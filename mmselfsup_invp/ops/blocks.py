"""Search without a threshold: similarities block by block, each block ranked by ``topk``."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows of a bank of 16-bit numbers that are widened at a time: on the CPU, and elsewhere.
CAST_ROWS = 2**13
DEVICE_CAST_ROWS = 2**16
# Queries go in multiples of this, which the matrix product likes best.
ROW_GROUP = 32

# Similarity, float32, and row, int64, of each query.
Found = tuple[Tensor, Tensor]


@dataclass
class Hidden:
    """What each query must not find."""

    exclude: Tensor | None = None
    bank_label: Tensor | None = None
    query_label: Tensor | None = None

    def of(self, queries: slice) -> 'Hidden':
        """The same for some of the queries."""
        exclude = None if self.exclude is None else self.exclude[queries]
        label = None if self.query_label is None else self.query_label[queries]
        return Hidden(exclude, self.bank_label, label)

    def within(self, sample: Tensor) -> 'Hidden':
        """The labels hidden in some rows of the bank; single rows matter little there."""
        label = None if self.bank_label is None else self.bank_label[sample]
        return Hidden(None, label, self.query_label)

    def count_visible(self, queries: int, rows: int) -> Tensor:
        """How many rows differ in the label, ``(B,)`` int64."""
        if self.bank_label is None:
            return torch.full((queries,), rows)
        return (self.bank_label != self.query_label[:, None]).sum(dim=1)

    def mask(self, scores: Tensor, columns: slice) -> None:
        """Overwrite hidden entries of the scores of some rows of the bank by -inf."""
        if self.exclude is not None:
            # A row outside the block hides nothing.
            column = self.exclude[:, None] - columns.start
            inside = column.clamp(0, scores.size(1) - 1)
            value = scores.gather(1, inside).masked_fill_(inside == column, -torch.inf)
            scores.scatter_(1, inside, value)
        if self.bank_label is not None:
            label = self.bank_label[columns]
            scores.masked_fill_(label == self.query_label[:, None], -torch.inf)


def search_blocks(query: Tensor, hidden: Hidden, bank: Tensor, m: int, limit: int) -> Found:
    """Search block by block with ``topk``, in any order."""
    rows, columns = _block_shape(len(query), len(bank), m, limit)
    similarity = query.new_empty((len(query), m), dtype=torch.float32)
    index = torch.empty_like(similarity, dtype=torch.int64)
    for start in range(0, len(query), rows):
        part = slice(start, start + rows)
        similarity[part], index[part] = _search_rows(query[part], hidden.of(part), bank, m, columns)
    return similarity, index


def _search_rows(query: Tensor, hidden: Hidden, bank: Tensor, m: int, columns: int) -> Found:
    """Search one block of queries, merging what each block of bank rows gives."""
    best = best_index = None
    for start in range(0, len(bank), columns):
        block = slice(start, start + columns)
        scores = similarities(query, bank[block])
        hidden.mask(scores, block)
        similarity, index = scores.topk(min(m, scores.size(1)), dim=1, sorted=False)
        index += start
        if best is not None:
            similarity = torch.cat([best, similarity], dim=1)
            index = torch.cat([best_index, index], dim=1)
            similarity, kept = similarity.topk(min(m, similarity.size(1)), dim=1, sorted=False)
            index = index.gather(1, kept)
        best, best_index = similarity, index
    return best, best_index


def similarities(query: Tensor, bank: Tensor, rows: Tensor | None = None) -> Tensor:
    """Inner products with all or some rows of the bank.

    In float32 even under autocast, which leaves ``out=`` calls alone.
    """
    query = query.float()
    out = query.new_empty((len(query), len(bank) if rows is None else len(rows)))
    start = 0
    for block in widened(bank, rows):
        torch.mm(query, block.T, out=out[:, start : start + len(block)])
        start += len(block)
    return out


def widened(bank: Tensor, rows: Tensor | None = None) -> Iterator[Tensor]:
    """The bank in float32: as it is, or block by block where it has to be copied."""
    step = CAST_ROWS if bank.device.type == 'cpu' else DEVICE_CAST_ROWS
    if rows is not None:
        return (bank.index_select(0, part).float() for part in rows.split(step))
    step = len(bank) if bank.dtype == torch.float32 else step
    return (bank[start : start + step].float() for start in range(0, len(bank), step))


def _block_shape(queries: int, bank_rows: int, m: int, max_elements: int) -> tuple[int, int]:
    """Choose how many queries meet how many bank rows at a time.

    Whole rows of similarities are best (nothing to merge). Where even :data:`ROW_GROUP` of them
    exceed the limit, the bank is split as well, but into blocks no narrower than ``m``, below
    which merging would cost more than it saves.
    """
    rows = max(max_elements // bank_rows // ROW_GROUP, 1) * ROW_GROUP
    rows = max(min(queries, rows), 1)
    return rows, min(bank_rows, max(max_elements // rows, m))
