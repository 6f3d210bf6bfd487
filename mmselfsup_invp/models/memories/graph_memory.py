import torch
from mmengine import dist
from mmengine.model import BaseModule
from torch import Tensor

from ... import ops
from ...ops.checks import require_choice, require_range
from ...ops.graph import UNFILLED

# How many ids of samples with NaN features are remembered for the error message.
NUM_FAULTS = 8


def unit_rows(length: int, dim: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors: the paper's initial bank."""
    return torch.nn.functional.normalize(torch.randn(length, dim, generator=generator), dim=1)


def uniform_rows(length: int, dim: int, generator: torch.Generator) -> Tensor:
    """Entries from U(-a, a) with a = sqrt(3 / dim), rows of expected squared norm 1: the code's."""
    return (torch.rand(length, dim, generator=generator) * 2 - 1) * (3 / dim) ** 0.5


INITIAL_ROWS = {'unit': unit_rows, 'uniform': uniform_rows}


class GraphMemory(BaseModule):
    """Rows of features and the kNN graph over them: what every memory of InvP is.

    All state is in registered buffers, the same on every rank, saved and restored with the model:

    - ``bank`` (N, D), float32: one unit feature a row.
    - ``neighbours`` (N, k), int64: each row's nearest others; -1 where a row is unfilled.

    A memory without a length is empty until :meth:`fit` sizes it (the hook does, from the data
    set) or a checkpoint is loaded into it.

    Args:
        feat_dim (int): D, dimensions of the embedding. Defaults to 128.
        num_neighbours (int): k, neighbours a row. Defaults to 4 (the paper).
        length (int, optional): N, rows; None to let :meth:`fit` decide. Defaults to None.
        init (str): Initial rows: ``'unit'`` random unit vectors (the paper) or ``'uniform'``
            entries from U(-sqrt(3/D), sqrt(3/D)), not normalised (the official code).
            Defaults to ``'unit'``.
        seed (int): Of the initial rows, so that every rank starts alike. Defaults to 0.
        init_cfg (dict, optional): Not used. Defaults to None.
    """

    # Whether row i is image i of the data set.
    holds_images = False

    def __init__(
        self,
        feat_dim: int = 128,
        num_neighbours: int = 4,
        length: int | None = None,
        init: str = 'unit',
        seed: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_choice('init', init, INITIAL_ROWS)
        require_range('feat_dim', feat_dim, 1, 2**20, 'an embedding needs a dimension')
        require_range('num_neighbours', num_neighbours, 1, 2**20, 'the graph needs an edge')
        self.feat_dim = feat_dim
        self.num_neighbours = num_neighbours
        self.init = init
        self.seed = seed
        self.register_buffer('bank', torch.empty(0, feat_dim))
        self.register_buffer('neighbours', torch.empty(0, num_neighbours, dtype=torch.int64))
        # Watched between two looks of the hook; not part of the state of a run.
        self.register_buffer('faults', torch.full((NUM_FAULTS,), -1), persistent=False)
        self.register_buffer('fault_iteration', torch.tensor(-1), persistent=False)
        self.register_buffer('edge_changes', torch.zeros(2, dtype=torch.int64), persistent=False)
        self.iteration = 0  # Told by the hook, for the messages.
        if length is not None:
            self.resize(length)

    def __len__(self) -> int:
        return len(self.bank)

    def fit(self, num_images: int) -> None:
        """Size the memory for a data set of ``num_images``."""
        raise NotImplementedError

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
        rows = INITIAL_ROWS[self.init](
            length, self.feat_dim, torch.Generator().manual_seed(self.seed)
        )
        self.bank = rows.to(self.bank)
        self.neighbours = self.neighbours.new_full((length, self.num_neighbours), UNFILLED)

    def search(self, query: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Find the ``width`` nearest rows (at most all); see :func:`~mmselfsup_invp.ops.top_m`.

        Args:
            query (Tensor): Float, unit rows, shape ``(B, D)``.
            width (int): Rows to find.

        Returns:
            tuple[Tensor, Tensor]: Similarity, float32, and index, int64, ``(B, width)``, in no
            order but the farthest last.
        """
        return ops.top_m(query, self.bank, min(width, len(self)), sort=False)

    def propagate(self, anchor: Tensor, hops: int, mode: str = 'set') -> tuple[Tensor, Tensor]:
        """Positives of the anchors on the graph; see :func:`~mmselfsup_invp.ops.propagate`."""
        return ops.propagate(self.neighbours, anchor, hops, mode)

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
        neighbours = ops.knn_graph(self.bank, self.num_neighbours)
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

    def _keep_finite(self, sample: Tensor, feature: Tensor) -> Tensor:
        """Tell which features are finite, ``(B,)`` bool, and remember the first that are not.

        Nothing is raised here, for a look at the values would make the device wait in every
        step: such rows are left out, and the hook reads :attr:`faults` now and then.
        """
        finite = feature.isfinite().all(dim=1)
        first = finite.to(torch.uint8).argsort(stable=True)[:NUM_FAULTS]
        found = torch.full_like(self.faults, -1)
        found[: len(first)] = torch.where(finite[first], -1, sample[first])
        unseen = self.faults[0] < 0
        self.fault_iteration.copy_(
            torch.where(unseen & ~finite.all(), self.iteration, self.fault_iteration)
        )
        self.faults.copy_(torch.where(unseen, found, self.faults))
        return finite

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Take the size of a checkpoint while empty; refuse another size afterwards."""
        free = 0 if len(self) else 1  # An empty memory takes any length, but no other width.
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape[free:] != buffer.shape[free:]:
                raise ValueError(
                    f'The checkpoint holds {prefix}{name} of shape {tuple(saved.shape)}, this run '
                    f'has {tuple(buffer.shape)}: it was trained on another data set or with other '
                    'feat_dim or num_neighbours. Resume with the same data and memory settings; '
                    'to start from its network alone, give it to the backbone as init_cfg='
                    "dict(type='Pretrained', checkpoint=..., prefix='backbone.')."
                )
        if not len(self):
            self._take_shapes(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _take_shapes(self, state_dict: dict, prefix: str) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, buffer.new_empty(saved.shape))


def gather_ranks(*parts: Tensor) -> list[Tensor]:
    """Concatenate each tensor over the ranks, in rank order; the tensors themselves without any."""
    return [torch.cat(dist.all_gather(part.contiguous())) for part in parts]


def first_of_equal(sample: Tensor) -> Tensor:
    """For each entry the position of the first with the same id, ``(B,)`` int64.

    Samplers pad the last batch by repeating samples. Writing the first one's values for all of
    them leaves no doubt about which one a scatter keeps, on any device.
    """
    return (sample[:, None] == sample[None, :]).to(torch.uint8).argmax(dim=1)
