"""Soft positives: a random walk on the kNN graph as the target of a cross entropy over the bank."""

import torch
from torch import Tensor

from .checks import require_choice, require_positive, require_range
from .graph import EDGES, MAX_WALKS, mutual_edges
from .similarity import bank_similarity, full_logsumexp, masked_logsumexp


@torch.no_grad()
def soft_walk(
    bank: Tensor,
    neighbours: Tensor,
    anchor: Tensor,
    hops: int,
    temperature: float,
    *,
    first: Tensor | None = None,
    branches: int = 5,
    restart: float = 0.5,
    edges: str = 'all',
    trust: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Where a random walk with restart from each anchor is found.

    The walk of InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_, section 3.2) with
    probabilities in place of a set. From row j it goes to one of the ``branches`` most similar
    neighbours n that it may go to, with probability ``softmax_n(s_jn / t)``. Before every further
    step it stops with probability ``restart``; where it cannot go on it stays.

    Args:
        bank (Tensor): Float, unit rows, shape ``(N, D)``.
        neighbours (Tensor): int64, shape ``(N, k)``; -1 marks an edge that does not exist.
        anchor (Tensor): int64, shape ``(B,)``, rows to start from.
        hops (int): Most steps, at least 1.
        temperature (float): t, positive.
        first (Tensor, optional): int64, shape ``(B, k)``, where the first step may go. Defaults
            to None, the anchors' rows of the graph.
        branches (int): Neighbours of a row among which the walk chooses. Defaults to 5.
        restart (float): Probability to stop after a step, 0 to 1. Defaults to 0.5.
        edges (str): ``'mutual'`` for those alone whose end links back, or ``'all'``. Defaults to
            ``'all'``.
        trust (float): Share of the first step's edges, over all anchors, that the walk may take:
            the most similar. The least similar of them is the bound for all further steps. Above
            0 to 1. Defaults to 1.

    Returns:
        tuple[Tensor, Tensor]: Row index, int64, and weight, float32, both ``(B, L)`` with
        ``L = b + b**2 + ... + b**hops``, b the branches. The weights of a row add up to 1, less
        what has returned to the anchor, and to 0 where the walk cannot leave the anchor. A row
        that several walks reach stands there several times; where the weight is 0 the index may
        be any.

    Raises:
        ValueError: If an option is outside its valid values.

    Example:
        >>> chain = torch.tensor([[1], [0], [1]])
        >>> anchor = torch.tensor([0, 2])
        >>> index, weight = soft_walk(torch.eye(3), chain, anchor, 1, 0.1, edges='mutual')
        >>> index[0].tolist(), weight.tolist()
        ([1], [[1.0], [0.0]])
    """
    require_choice('edges', edges, EDGES)
    require_positive('temperature', temperature, '0.05')
    require_range('hops', hops, 1, 16, 'the walk takes branches ** hops steps')
    branches = min(branches, neighbours.size(1))
    walks = branches**hops
    require_range('walks', walks, 1, MAX_WALKS, 'walk fewer hops, or with fewer branches')
    if not 0 <= restart <= 1:
        raise ValueError(f'restart = {restart} must be within 0 to 1.')
    if not 0 < trust <= 1:
        raise ValueError(f'trust = {trust} must be above 0 and at most 1.')
    if first is None:
        first = neighbours[anchor]
    bound = None if trust == 1 else _bound(_similarity(bank, anchor, first), trust)
    options = dict(branches=branches, temperature=temperature, edges=edges, bound=bound)
    index, weight = _step(bank, neighbours, anchor, first, **options)
    found = []
    for _ in range(hops - 1):
        source = index.flatten()
        index, step = _step(bank, neighbours, source, neighbours[source], **options)
        moved = weight * (1 - restart) * step.any(dim=1).view_as(weight)
        found.append((source.view_as(weight), weight - moved))
        index = index.view(len(anchor), -1)
        weight = (moved[:, :, None] * step.view(*moved.shape, branches)).flatten(1)
    found.append((index, weight))
    index, weight = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
    return index, weight.masked_fill(index == anchor[:, None], 0)


def _similarity(bank: Tensor, source: Tensor, index: Tensor) -> Tensor:
    """Similarity of the ends of each edge, float32, ``(B, F)``; -inf where there is none."""
    rows = bank[index.clamp(min=0)].float()
    similarity = torch.einsum('bd,bkd->bk', bank[source].float(), rows)
    return similarity.masked_fill(index < 0, -torch.inf)


def _bound(similarity: Tensor, trust: float) -> Tensor:
    """The least similarity of the share ``trust`` of the most similar edges."""
    kept = max(round(trust * similarity.numel()), 1)
    return similarity.flatten().topk(kept, sorted=False).values.min()


def _step(
    bank: Tensor,
    neighbours: Tensor,
    source: Tensor,
    index: Tensor,
    *,
    branches: int,
    temperature: float,
    edges: str,
    bound: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Ends and probabilities of the edges to take, ``(B, branches)``; all 0 if there is none."""
    similarity = _similarity(bank, source, index)
    if edges == 'mutual':
        similarity.masked_fill_(~mutual_edges(neighbours, source, index), -torch.inf)
    if bound is not None:
        similarity.masked_fill_(similarity < bound, -torch.inf)
    similarity, kept = similarity.topk(branches, dim=1)
    weight = (similarity / temperature).softmax(dim=1).nan_to_num(0)
    return index.clamp(min=0).gather(1, kept), weight


def soft_cross_entropy(
    query: Tensor,
    bank: Tensor,
    index: Tensor,
    target: Tensor,
    background: Tensor | None,
    temperature: float,
    *,
    similarity: Tensor | None = None,
) -> Tensor:
    """Cross entropy of a distribution over rows with the query's softmax over the background.

    ``-sum_j q_ij log(e_ij / sum_n e_in)``, where j runs over the rows that the target names and n
    over the background; the relational loss of `ReSSL <https://arxiv.org/abs/2107.09282>`_ and
    `SCE <https://arxiv.org/abs/2111.14585>`_ over rows of a bank.

    Args:
        query (Tensor): Float, unit rows, shape ``(B, D)``; the gradient flows here only.
        bank (Tensor): Float, unit rows, shape ``(N, D)``.
        index (Tensor): int64, shape ``(B, T)``, rows of the target; equal ones add up.
        target (Tensor): float32, shape ``(B, T)``, their probabilities q.
        background (Tensor, optional): int64, shape ``(B, M)``, each row once, those of the target
            among them; None for the whole bank.
        temperature (float): t of the query, positive.
        similarity (Tensor, optional): float32, shape ``(B, M)``: similarities of the background
            with their gradient (:func:`bank_similarity`). Defaults to None, compute them.

    Returns:
        Tensor: float32, shape ``(B,)``.

    Example:
        >>> bank, index = torch.eye(3), torch.tensor([[0, 1]])
        >>> query, target = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.5]])
        >>> soft_cross_entropy(query, bank, index, target, None, temperature=1.0)
        tensor([1.0514])
    """
    require_positive('temperature', temperature, '0.1')
    if background is None:
        total = full_logsumexp(query, bank, temperature)
    else:
        if similarity is None:
            similarity = bank_similarity(query, bank, background)
        total = masked_logsumexp(similarity, None, temperature)
    own = (target * bank_similarity(query, bank, index)).sum(dim=1) / temperature
    return target.sum(dim=1) * total - own
