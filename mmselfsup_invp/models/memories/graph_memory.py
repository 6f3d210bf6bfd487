import torch
from torch import Tensor

from ... import ops
from ...ops.checks import require_choice, require_range
from ...ops.graph import EDGES, UNFILLED
from ...ops.search import require_backend
from .feature_memory import FeatureMemory


class GraphMemory(FeatureMemory):
    """Rows of features and the kNN graph over them: what every memory of InvP is.

    Beside the ``bank``, ``neighbours`` (N, k), int64, holds each row's nearest others; -1 where a
    row is unfilled.

    Args:
        num_neighbours (int): k, neighbours a row. Defaults to 4 (the paper).
        length (int, optional): N, rows; None to let :meth:`fit` decide. Defaults to None.
        backend (str): How to search, see :func:`~mmselfsup_invp.ops.top_m`. Defaults to ``'auto'``.
        edges (str): Edges that :meth:`propagate` walks: ``'all'`` (the paper), or ``'mutual'`` for
            those whose end links back, which are fewer and more often within a class. Defaults to
            ``'all'``.
        trust (float): Share of a batch's edges that :meth:`propagate` walks, the most similar:
            images in dense parts of the bank, whose neighbours are more often of their class, have
            positives, and others none. Defaults to 1, all (the paper).
        **kwargs: See :class:`FeatureMemory`: feat_dim, init, seed, dtype.
    """

    row_buffers = ('bank', 'neighbours')

    def __init__(
        self,
        num_neighbours: int = 4,
        length: int | None = None,
        backend: str = 'auto',
        edges: str = 'all',
        trust: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        require_backend(backend)
        require_choice('edges', edges, EDGES)
        self.backend = backend
        if not 0 < trust <= 1:
            raise ValueError(f'trust = {trust} must be above 0 and at most 1.')
        self.edges = edges
        self.trust = trust
        require_range('num_neighbours', num_neighbours, 1, 2**20, 'the graph needs an edge')
        self.num_neighbours = num_neighbours
        self.register_buffer('neighbours', torch.empty(0, num_neighbours, dtype=torch.int64))
        self.register_buffer('edge_changes', torch.zeros(2, dtype=torch.int64), persistent=False)
        if length is not None:
            self.resize(length)

    def resize(self, length: int) -> None:
        """Give the memory ``length`` new rows and an unfilled graph.

        Raises:
            ValueError: If the graph needs more rows than that.
        """
        if length <= self.num_neighbours:
            raise ValueError(
                f'A memory of {length} rows cannot give {self.num_neighbours} neighbours other '
                f'than the row itself: num_neighbours must be 1 to {length - 1}, or the data set '
                'larger.'
            )
        super().resize(length)
        self.neighbours = self.neighbours.new_full((length, self.num_neighbours), UNFILLED)

    def search(self, query: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Find the ``width`` nearest rows (at most all); see :func:`~mmselfsup_invp.ops.top_m`.

        Args:
            query (Tensor): Float, unit rows, shape ``(B, D)``.
            width (int): Rows to find.

        Returns:
            tuple[Tensor, Tensor]: Similarity, float32, and index, int64, ``(B, width)``, in no
            order but the farthest last.

        Raises:
            RuntimeError: If there are no rows yet.
        """
        if not len(self):
            raise RuntimeError(
                'The bank has no rows yet. Add the hook that sizes it from the data set to the '
                "config: default_hooks = dict(memory=dict(type='PropagationMemoryHook'))."
            )
        return ops.top_m(query, self.bank, min(width, len(self)), sort=False, backend=self.backend)

    def propagate(self, anchor: Tensor, hops: int, mode: str = 'set') -> tuple[Tensor, Tensor]:
        """Positives of the anchors on the graph; see :func:`~mmselfsup_invp.ops.propagate`."""
        if self.trust == 1:
            return ops.propagate(self.neighbours, anchor, hops, mode, self.edges)
        return ops.propagate_trusted(
            self.bank, self.neighbours, anchor, hops, self.trust, edges=self.edges
        )

    def nearest_others(
        self, nearest: tuple[Tensor, Tensor], anchor: Tensor, num: int | None = None
    ) -> Tensor:
        """Pick the nearest rows other than the anchors' own from a search.

        Args:
            nearest (tuple[Tensor, Tensor]): What :meth:`search` gave.
            anchor (Tensor): int64, shape ``(B,)``.
            num (int, optional): Rows to pick, fewer than the search has columns. Defaults to
                None, k of the graph.

        Returns:
            Tensor: int64, shape ``(B, num)``.
        """
        similarity, index = nearest
        width = min((num or self.num_neighbours) + 1, index.size(1))
        best = similarity.topk(width, dim=1).indices
        return ops.exclude_anchor(index.gather(1, best), anchor)[0]

    @torch.no_grad()
    def rebuild_graph(self) -> None:
        """Replace the whole graph by the exact kNN graph of the rows as they are."""
        neighbours = ops.knn_graph(self.bank, self.num_neighbours, backend=self.backend)
        self._count_changes(self.neighbours, neighbours)
        self.neighbours.copy_(neighbours)

    @torch.no_grad()
    def link(self, row: Tensor, neighbours: Tensor) -> None:
        """Give rows new neighbours.

        Args:
            row (Tensor): int64, shape ``(B,)``.
            neighbours (Tensor): int64, shape ``(B, k)``.
        """
        self._count_changes(self.neighbours[row], neighbours)
        self.neighbours[row] = neighbours

    def _count_changes(self, old: Tensor, new: Tensor) -> None:
        filled = (old >= 0).any(dim=1)
        kept = (new[:, :, None] == old[:, None, :]).any(dim=2)
        self.edge_changes[0] += (~kept & filled[:, None]).sum()
        self.edge_changes[1] += filled.sum() * new.size(1)
