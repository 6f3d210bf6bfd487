import torch
from mmengine import dist
from torch import Tensor

from ...memory import FeatureBank, FeatureQueue, KNNGraph
from ...ops import Neighbours, Positives
from ...ops.search import BankRows, top_m
from .base import Memory


class GraphMemory(Memory):
    """Rows of features and the kNN graph over them: the memories of InvP.

    Args:
        features (FeatureBank | FeatureQueue): The rows.
        num_neighbours (int): k, neighbours of a row. Defaults to 4 (the paper).
        backend (str): How to search, see :func:`~mmselfsup_invp.ops.top_m`. Defaults to ``'auto'``.
        init_cfg (dict, optional): Not used. Defaults to None.

    Attributes:
        needs_keys (bool): Whether the rows can only be keys of a momentum encoder.
        rows_from_keys (bool): Whether only ``insert``, which takes the keys of a momentum encoder,
            writes the rows; :meth:`commit` then changes the graph alone. See :meth:`take_keys`.
    """

    needs_keys = False
    rows_from_keys = False
    hook = "memory=dict(type='PropagationMemoryHook')"

    def __init__(
        self,
        features: FeatureBank | FeatureQueue,
        num_neighbours: int = 4,
        backend: str = 'auto',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backend = backend
        self.features = features
        self.graph = KNNGraph(num_neighbours, len(features), shard=features.shard)

    def take_keys(self) -> None:
        """Let ``insert`` alone write the rows."""
        self.rows_from_keys = True

    @property
    def bank(self) -> Tensor | BankRows:
        """Features, shape ``(N, D)``."""
        return self.features.view('bank')

    @property
    def neighbours(self) -> Tensor | BankRows:
        """Neighbours of each row, int64, shape ``(N, k)``; -1 where there is none."""
        return self.graph.view('neighbours')

    @property
    def num_neighbours(self) -> int:
        """k."""
        return self.graph.num_neighbours

    def resize(self, length: int) -> None:
        """Replace the rows by ``length`` initial ones and remove all edges.

        Raises:
            ValueError: If the graph needs more rows than that.
        """
        self.graph.resize(length)
        self.features.resize(length)

    def search(self, query: Tensor, m: int, exclude: Tensor | None = None) -> Neighbours:
        """Find the ``m`` nearest rows (at most all); see :func:`~mmselfsup_invp.ops.top_m`.

        Args:
            query (Tensor): Float, unit rows, shape ``(B, D)``.
            m (int): Rows to find.
            exclude (Tensor, optional): int64, shape ``(B,)``, a row that each query must not find.
                Defaults to None, find any row.

        Returns:
            Neighbours: Similarity, float32, and index, int64, ``(B, m)``, in any order.

        Raises:
            RuntimeError: If there are no rows yet.
        """
        self.require_rows()
        m = min(m, len(self) - (exclude is not None))
        return top_m(query, self.bank, m, exclude=exclude, sort=False, backend=self.backend)

    def propagate(
        self, anchor: Tensor, hops: int, mode: str = 'set', edges: str = 'all'
    ) -> Positives:
        """Positives of the anchors on the graph; see :func:`~mmselfsup_invp.ops.propagate`."""
        return self.graph.propagate(anchor, hops, mode, edges)

    @torch.no_grad()
    def rebuild_graph(self) -> None:
        """Replace the whole graph by the exact kNN graph of the rows as they are."""
        self.graph.rebuild(self.bank, self.backend)
        if not self.graph.split:
            # Among rows of equal similarity the processes may have found different ones.
            dist.broadcast(self.graph.neighbours)

    def edge_churn(self) -> float | None:
        """Share of the rewritten edges that changed since the last call; None if none was."""
        return self.graph.churn()
