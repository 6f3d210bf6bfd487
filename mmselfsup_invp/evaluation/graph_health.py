"""Quality of a kNN graph and of the features behind it, with and without labels."""

from dataclasses import asdict, dataclass

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ..ops import propagate
from ..ops.clustering import class_sums
from ..ops.search import BankRows

# Runs beyond these limits are unlikely to succeed; each warning names an option to change.
MAX_UNFILLED = 0.05
MAX_HUB_RATIO = 50


@dataclass
class GraphHealth:
    """State of a memory, from :func:`graph_health`.

    Attributes:
        unfilled (float): Share of rows of the graph that were never filled.
        largest_in_degree (int): Edges into the row that most others point to.
        mean_norm (float): Norm of the mean feature: near 0 if evenly spread, 1 if all are equal.
        num_components (int): Weakly connected components among the filled rows.
        largest_component (float): Share of the filled rows in the largest of them.
        degree (int): k, edges out of each filled row.
    """

    unfilled: float
    largest_in_degree: int
    mean_norm: float
    num_components: int
    largest_component: float
    degree: int

    def metrics(self) -> dict[str, float]:
        """The attributes by name, without ``degree``, for the log."""
        metrics = asdict(self)
        metrics.pop('degree')
        return metrics

    def warnings(self) -> list[str]:
        """A sentence for each limit that is exceeded, with options to change."""
        found = []
        if self.unfilled > MAX_UNFILLED:
            found.append(
                f'{self.unfilled:.0%} of the rows of the graph are unfilled: those images were '
                'never sampled. Use a sampler that reaches every image in an epoch.'
            )
        if self.largest_in_degree > MAX_HUB_RATIO * self.degree:
            found.append(
                f'one row is a neighbour of {self.largest_in_degree} others (a hub). Lower hops '
                'or num_neighbours, or raise ramp_epochs.'
            )
        return found


@torch.no_grad()
def graph_health(bank: Tensor | BankRows, neighbours: Tensor) -> GraphHealth:
    """Measure the state of a memory without labels.

    Args:
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``.
        neighbours (Tensor): int64, shape ``(N, k)``; -1 for no edge.

    Returns:
        GraphHealth: The state.
    """
    neighbours = neighbours.cpu()
    filled = (neighbours >= 0).any(dim=1)
    row, column = (neighbours >= 0).nonzero(as_tuple=True)
    target = neighbours[row, column]
    in_degree = torch.bincount(target, minlength=len(neighbours))
    # Rows without any edge, in or out, are components of their own and no part of the graph.
    linked = filled | (in_degree > 0)
    sizes = _component_sizes(row, target, linked)
    return GraphHealth(
        unfilled=1 - filled.float().mean().item(),
        largest_in_degree=int(in_degree.max()),
        mean_norm=_mean_row(bank).norm().item(),
        num_components=len(sizes),
        largest_component=(sizes.max() / linked.sum()).item() if len(sizes) else 0.0,
        degree=neighbours.size(1),
    )


def _mean_row(bank: Tensor | BankRows) -> Tensor:
    """Mean of all rows, float32, ``(1, D)``."""
    label = torch.zeros(len(bank), dtype=torch.int64, device=bank.device)
    return class_sums(bank, label, num_classes=1) / len(bank)


def _component_sizes(source: Tensor, target: Tensor, linked: Tensor) -> Tensor:
    edges = torch.ones(len(source), dtype=torch.int8).numpy()
    shape = (len(linked), len(linked))
    graph = coo_matrix((edges, (source.numpy(), target.numpy())), shape=shape)
    _, component = connected_components(graph, directed=False)
    return torch.from_numpy(component).long()[linked].unique(return_counts=True)[1]


@torch.no_grad()
def neighbour_purity(
    neighbours: Tensor, label: Tensor, hops: int, anchor: Tensor
) -> dict[str, float]:
    """Share of the positives N(i) after each hop that have the label of the anchor.

    Args:
        neighbours (Tensor): int64, shape ``(N, k)``.
        label (Tensor): int64, shape ``(N,)``, true classes.
        hops (int): l, the number of steps.
        anchor (Tensor): int64, shape ``(A,)``, rows i that are evaluated.

    Returns:
        dict[str, float]: ``purity_hop1`` (the kNN themselves) to ``purity_hop{l}``, in percent,
        each over all positives of all anchors within so many hops. Empty if no anchor has any.
    """
    purity = {}
    for hop in range(1, hops + 1):
        index, mask = propagate(neighbours, anchor, hop)
        if mask.any():
            same = label[index] == label[anchor][:, None]
            purity[f'purity_hop{hop}'] = same[mask].float().mean().item() * 100
    return purity
