"""What a search is asked for, and what it finds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """Rows of the bank, int64, and their similarities with each query, float32, both ``(B, m)``."""

    similarity: Tensor
    index: Tensor  # type: ignore[assignment]  # Hides tuple.index.

    def top(self, num: int, *, sort: bool = True) -> 'Neighbours':
        """Select the ``num`` most similar of these rows (at most all), in descending order."""
        num = min(num, self.similarity.size(1))
        similarity, column = self.similarity.topk(num, dim=1, sorted=sort)
        return Neighbours(similarity, self.index.gather(1, column))


@dataclass(frozen=True)
class Request:
    """One search, as every backend receives it; the fields are those of :func:`~.top_m`."""

    query: Tensor
    bank: Any  # A Tensor. BankRows search themselves, so that no backend receives them.
    m: int
    exclude: Tensor | None = None
    labels: tuple[Tensor, Tensor] | None = None
    max_elements: int = 2**21

    def split(self, step: int) -> Iterator['Request']:
        """Yield the same search for ``step`` queries at a time; once if there are none."""
        for start in range(0, max(len(self.query), 1), step):
            part = slice(start, start + step)
            yield replace(
                self,
                query=self.query[part],
                exclude=None if self.exclude is None else self.exclude[part],
                labels=None if self.labels is None else (self.labels[0][part], self.labels[1]),
            )

    def mask(self, scores: Tensor, columns: slice) -> None:
        """Overwrite the scores of hidden rows by -inf; ``columns`` are their rows of the bank."""
        if self.exclude is not None:
            # A row outside the block hides nothing.
            column = self.exclude[:, None] - columns.start
            inside = column.clamp(0, scores.size(1) - 1)
            value = scores.gather(1, inside).masked_fill_(inside == column, -torch.inf)
            scores.scatter_(1, inside, value)
        self.mask_labels(scores, columns)

    def mask_labels(self, scores: Tensor, rows: slice | Tensor) -> None:
        """Overwrite the scores of rows of the query's own label by -inf, in place."""
        if self.labels is not None:
            query_label, bank_label = self.labels
            scores.masked_fill_(bank_label[rows] == query_label[:, None], -torch.inf)


@overload
def concatenate(parts: list[Neighbours]) -> Neighbours: ...
@overload
def concatenate(parts: Iterable[Neighbours | None]) -> Neighbours | None: ...
def concatenate(parts: Iterable[Neighbours | None]) -> Neighbours | None:
    """Join the results of a split search; None if one of them is None."""
    found = list(parts)
    return None if None in found else Neighbours(*map(torch.cat, zip(*found, strict=True)))
