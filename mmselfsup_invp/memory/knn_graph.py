import torch
from torch import Tensor

from ..ops import graph
from ..ops.graph import UNFILLED
from ..ops.search import BankRows
from ..options import NonNegativeInt, PositiveInt, checked
from .counter import ChangeCounter
from .state import RowState

# Rows tested at a time for edges that link back.
MUTUAL_BATCH = 2**16


@checked
class KNNGraph(RowState):
    """Directed graph of the nearest neighbours of each row of a bank.

    N_k of `InvP <https://arxiv.org/abs/2010.11694>`_ (section 3.1), of which a training step
    refreshes the rows of its batch. The graph starts without edges.

    Buffer: ``neighbours`` (N, k), int64; -1 marks an edge that does not exist.

    Args:
        num_neighbours (int): k, neighbours of a row. Defaults to 4 (the paper).
        length (int): N, rows; 0 leaves it to :meth:`resize` or a checkpoint. Defaults to 0.
        shard (bool): Whether the rows are split over the processes, see
            :class:`~mmselfsup_invp.memory.RowState`. Defaults to False.

    Raises:
        ValueError: If ``num_neighbours`` is below 1 or not below the length.

    Example:
        >>> graph = KNNGraph(num_neighbours=1, length=3)
        >>> graph.link(torch.tensor([0, 1]), torch.tensor([[1], [2]]))
        >>> index, mask = graph.propagate(torch.tensor([0]), hops=2)
        >>> index[mask]
        tensor([1, 2])
    """

    neighbours: Tensor

    def __init__(
        self, num_neighbours: PositiveInt = 4, length: NonNegativeInt = 0, shard: bool = False
    ) -> None:
        super().__init__(shard)
        self.num_neighbours = num_neighbours
        self.register_rows('neighbours', torch.empty(0, num_neighbours, dtype=torch.int64))
        self.changes = ChangeCounter()
        if length:
            self.resize(length)

    def resize(self, length: int) -> None:
        """Make a graph of ``length`` rows without edges."""
        if length <= self.num_neighbours:
            raise ValueError(
                f'A memory of {length} rows cannot give {self.num_neighbours} neighbours other '
                f'than the row itself: num_neighbours must be 1 to {length - 1}, or the data set '
                'larger.'
            )
        part = self.split_rows(length)
        shape = (part.stop - part.start, self.num_neighbours)
        self.neighbours = self.neighbours.new_full(shape, UNFILLED)

    @torch.no_grad()
    def link(self, anchor: Tensor, neighbours: Tensor, valid: Tensor | None = None) -> None:
        """Replace the neighbours of some rows.

        A row that occurs more than once takes its first neighbours.

        Args:
            anchor (Tensor): int64, shape ``(B,)``, the rows.
            neighbours (Tensor): int64, shape ``(B, k)``.
            valid (Tensor, optional): bool, shape ``(B,)``: the others keep their neighbours.
                Defaults to None, all are valid.

        Raises:
            ValueError: If there are more or fewer than k neighbours.
        """
        if neighbours.size(1) != self.num_neighbours:
            raise ValueError(
                f'neighbours of shape {tuple(neighbours.shape)} must have {self.num_neighbours} '
                'columns, one for each neighbour.'
            )
        row, source, own = self.place(anchor)
        written = own if valid is None else own & valid[source]
        old = self.neighbours[row]
        new = torch.where(written[:, None], neighbours[source], old)
        self._count_changes(old, new, self._is_here(anchor))
        self.neighbours[row] = new

    @torch.no_grad()
    def forget(self, row: Tensor) -> None:
        """Remove all edges of and to rows whose features are replaced.

        Args:
            row (Tensor): int64, shape ``(B,)``.
        """
        forgotten = torch.zeros(len(self), dtype=torch.bool, device=self.neighbours.device)
        forgotten[row] = True
        stale = forgotten[self.neighbours.clamp(min=0)]
        self.neighbours.masked_fill_(stale | forgotten[:, None], UNFILLED)

    @torch.no_grad()
    def rebuild(self, bank: Tensor | BankRows, backend: str = 'auto') -> None:
        """Replace the graph by the exact one; see :func:`~mmselfsup_invp.ops.knn_graph`.

        Args:
            bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``, split as the graph is.
            backend (str): How to search. Defaults to ``'auto'``.
        """
        neighbours = graph.knn_graph(bank, self.num_neighbours, backend=backend)
        neighbours = neighbours[: len(self.neighbours)]
        every = torch.ones_like(neighbours[:, 0], dtype=torch.bool)
        self._count_changes(self.neighbours, neighbours, every)
        self.neighbours.copy_(neighbours)

    def propagate(
        self, anchor: Tensor, hops: int, mode: str = 'set', edges: str = 'all'
    ) -> graph.Positives:
        """Walk the graph from the anchors; see :func:`~mmselfsup_invp.ops.propagate`."""
        return graph.propagate(self.view('neighbours'), anchor, hops, mode, edges)

    def mutual_share(self) -> float:
        """Share of the edges whose end links back; needs no labels. Waits for the device.

        Returns:
            float: Within 0 to 1; 0 for a graph without edges.
        """
        neighbours = self.whole('neighbours')
        row = torch.arange(len(self), device=neighbours.device)
        blocks = zip(row.split(MUTUAL_BATCH), neighbours.split(MUTUAL_BATCH), strict=True)
        mutual = sum(graph.mutual_edges(neighbours, *block).sum() for block in blocks)
        return float(mutual / (neighbours >= 0).sum().clamp(min=1))

    def churn(self) -> float | None:
        """Share of the rewritten edges that changed since the last call.

        Rows that had no edges before do not count. Waits for the device.

        Returns:
            float | None: Within 0 to 1; None if no edge was rewritten.
        """
        return self.changes.ratio(split=self.split is not None)

    def _is_here(self, anchor: Tensor) -> Tensor:
        """Which rows this process holds, bool, ``(B,)``."""
        if self.split is None:
            return torch.ones_like(anchor, dtype=torch.bool)
        return self.split.local(anchor)[1]

    def _count_changes(self, old: Tensor, new: Tensor, counted: Tensor) -> None:
        filled = (old >= 0).any(dim=1) & counted
        kept = (new[:, :, None] == old[:, None, :]).any(dim=2)
        self.changes.add(~kept, filled[:, None].expand_as(kept))
