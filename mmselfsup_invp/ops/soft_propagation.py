"""Soft positives: a random walk on the kNN graph as the target of a cross entropy over the bank."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..options import (
    Fraction,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Temperature,
    check_option,
    checked,
)
from . import collectives
from .checks import require_range
from .graph import MAX_WALKS, Edges, Hops, mutual_edges
from .search import BankRows
from .search.products import disable_autocast
from .similarity import bank_similarity, full_logsumexp, masked_logsumexp


@checked
@dataclass(frozen=True)
class WalkOptions:
    """Options of :func:`soft_walk`.

    Attributes:
        hops (int): Maximum number of steps, at least 1. Defaults to 2.
        temperature (float): Temperature t of the edges, 0.001 to 100. Defaults to 0.05.
        branches (int): Neighbours of a row among which the walk chooses. Defaults to 5.
        restart (float): Probability to stop after a step, 0 to 1. Defaults to 0.5.
        edges (str): ``'all'``, or ``'mutual'`` for those whose end links back. Defaults to
            ``'all'``.
        trust (float): Share of the edges of the first step, over the anchors of all processes,
            that the walk may take: the most similar. The lowest similarity among them is the bound
            of the further steps. With less than 1, all processes walk at the same time. Above 0 to
            1. Defaults to 0.1.

    Raises:
        ValueError: If an option is outside its valid values.
    """

    hops: Hops = 2
    temperature: Temperature = 0.05
    branches: PositiveInt = 5
    restart: Fraction = 0.5
    edges: Edges = 'all'
    trust: PositiveFraction = 0.1

    def __post_init__(self) -> None:
        walks = self.branches**self.hops
        require_range('branches ** hops', walks, 1, MAX_WALKS, 'reduce the hops or the branches')


@torch.no_grad()
def soft_walk(
    bank: Tensor | BankRows,
    neighbours: Tensor | BankRows,
    anchor: Tensor,
    options: WalkOptions,
    first: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Distribution of the end of a random walk with restart from each anchor.

    The propagation of InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_, section 3.1)
    with probabilities in place of a set. From row j the walk goes to one of the most similar
    neighbours n that it may go to, with probability ``softmax_n(s_jn / t)``. Before every further
    step it stops with probability ``restart``; where it cannot go on it stays.

    Args:
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``.
        neighbours (Tensor | BankRows): int64, shape ``(N, k)``; -1 marks a missing edge.
        anchor (Tensor): int64, shape ``(B,)``, rows to start from.
        options (WalkOptions): Length of the walk and edges that it may take.
        first (Tensor, optional): int64, shape ``(B, k)``, ends of the edges of the first step.
            Defaults to None, the anchors' rows of the graph.

    Returns:
        tuple[Tensor, Tensor]: Row index, int64, and probability, float32, both ``(B, L)`` with
        ``L = b + b**2 + ... + b**hops`` and b the branches, at most k. The probabilities of an
        anchor add up to 1 minus that of a return to it, or to 0 if no edge leaves it. A row that
        several walks reach occurs several times. The index is arbitrary where the probability is
        0.

    Example:
        >>> chain = torch.tensor([[1], [0], [1]])
        >>> options = WalkOptions(hops=1, edges='mutual', trust=1)
        >>> index, weight = soft_walk(torch.eye(3), chain, torch.tensor([0, 2]), options)
        >>> index[0].tolist(), weight.tolist()
        ([1], [[1.0], [0.0]])
    """
    if first is None:
        first = neighbours[anchor]
    bound = None
    if options.trust < 1:
        bound = _bound(_similarity(bank, anchor, first), options.trust)
    index, weight = _step(bank, neighbours, anchor, first, options, bound)
    found = []
    for _ in range(options.hops - 1):
        source = index.flatten()
        index, step = _step(bank, neighbours, source, neighbours[source], options, bound)
        moved = weight * (1 - options.restart) * step.any(dim=1).view_as(weight)
        found.append((source.view_as(weight), weight - moved))
        index = index.view(len(anchor), -1)
        weight = (moved[:, :, None] * step.view(*moved.shape, -1)).flatten(1)
    found.append((index, weight))
    index, weight = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
    return index, weight.masked_fill(index == anchor[:, None], 0)


def _similarity(bank: Tensor | BankRows, source: Tensor, index: Tensor) -> Tensor:
    """Similarity of the ends of each edge, float32, ``(B, F)``; -inf for a missing edge."""
    rows = bank[index.clamp(min=0)].float()
    with disable_autocast(rows.device):
        similarity = torch.einsum('bd,bkd->bk', bank[source].float(), rows)
    return similarity.masked_fill(index < 0, -torch.inf)


def _bound(similarity: Tensor, trust: float) -> Tensor:
    """Lowest similarity of the share ``trust`` of the most similar edges of all processes."""
    similarity = collectives.gather(similarity).flatten()
    edges = (similarity > -torch.inf).sum()
    last = (trust * edges.double()).round().long().clamp(min=1) - 1
    # Their number is on the device: gather() does not wait for it, as an index or topk would.
    return similarity.sort(descending=True).values.gather(0, last[None])


def _step(
    bank: Tensor | BankRows,
    neighbours: Tensor | BankRows,
    source: Tensor,
    index: Tensor,
    options: WalkOptions,
    bound: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Ends and probabilities of the edges to take, ``(B, branches)``; all 0 if there is none."""
    similarity = _similarity(bank, source, index)
    if options.edges == 'mutual':
        similarity.masked_fill_(~mutual_edges(neighbours, source, index), -torch.inf)
    if bound is not None:
        similarity.masked_fill_(similarity < bound, -torch.inf)
    similarity, kept = similarity.topk(min(options.branches, index.size(1)), dim=1)
    weight = (similarity / options.temperature).softmax(dim=1).nan_to_num(0)
    return index.clamp(min=0).gather(1, kept), weight


def soft_cross_entropy(
    query: Tensor,
    bank: Tensor | BankRows,
    index: Tensor,
    target: Tensor,
    background: Tensor | None,
    temperature: float,
) -> Tensor:
    """Cross entropy of a distribution over rows with the query's softmax over the background.

    ``-sum_j q_ij log(e_ij / sum_n e_in)``, where j runs over the rows that the target names and n
    over the background; the relational loss of `ReSSL <https://arxiv.org/abs/2107.09282>`_ and
    `SCE <https://arxiv.org/abs/2111.14585>`_ over rows of a bank.

    Args:
        query (Tensor): Float, unit rows, shape ``(B, D)``; the gradient flows here only.
        bank (Tensor | BankRows): Float, unit rows, shape ``(N, D)``.
        index (Tensor): int64, shape ``(B, T)``, rows of the target; equal ones add up.
        target (Tensor): float32, shape ``(B, T)``, their probabilities q.
        background (Tensor, optional): int64, shape ``(B, M)``, each row once, those of the target
            among them; None for the whole bank.
        temperature (float): t of the query, positive.

    Returns:
        Tensor: float32, shape ``(B,)``.

    Example:
        >>> bank, index = torch.eye(3), torch.tensor([[0, 1]])
        >>> query, target = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.5]])
        >>> soft_cross_entropy(query, bank, index, target, None, temperature=1.0)
        tensor([1.0514])
    """
    check_option('soft_cross_entropy', 'temperature', temperature, PositiveFloat)
    if background is None:
        total = full_logsumexp(query, bank, temperature)
    else:
        total = masked_logsumexp(bank_similarity(query, bank, background), None, temperature)
    own = (target * bank_similarity(query, bank, index)).sum(dim=1) / temperature
    return target.sum(dim=1) * total - own
