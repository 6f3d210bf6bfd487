"""Soft positives: a random walk on the kNN graph as the target of a cross entropy over the bank."""

import torch
from torch import Tensor

from .checks import require_choice, require_positive, require_range
from .graph import MAX_WALKS
from .similarity import bank_similarity, full_logsumexp, masked_logsumexp

# Which edges of the graph the walk may take.
EDGES = ('all', 'mutual')


@torch.no_grad()
def soft_walk(
    bank: Tensor,
    neighbours: Tensor,
    anchor: Tensor,
    first: tuple[Tensor, Tensor],
    hops: int,
    temperature: float,
    *,
    restart: float = 0.5,
    edges: str = 'mutual',
) -> tuple[Tensor, Tensor]:
    """Where a random walk with restart from each anchor is found, after one step or more.

    The walk of InvP (`arXiv:2010.11694 <https://arxiv.org/abs/2010.11694>`_, section 3.2) with
    probabilities in place of a set. From row j it goes to neighbour n with probability
    ``softmax_n(s_jn / t)``; before every further step it stops with probability ``restart``, so
    that a walk ends after h steps with probability ``restart * (1 - restart)**(h - 1)``, and what
    is left ends after the last step.

    With ``edges='mutual'`` a walk that takes an edge whose end does not link back is lost, and so
    is one that takes an edge that does not exist, or returns to its anchor. The weights of an
    anchor thus add up to the share of its walks that can be trusted, 0 to 1.

    Args:
        bank (Tensor): Float, unit rows, shape ``(N, D)``.
        neighbours (Tensor): int64, shape ``(N, k)``; -1 marks an edge that does not exist.
        anchor (Tensor): int64, shape ``(B,)``, rows to start from.
        first (tuple[Tensor, Tensor]): Index, int64, and similarity, float32, ``(B, F)`` each: the
            neighbours of the anchors now, where the first step goes.
        hops (int): Most steps, at least 1.
        temperature (float): t, positive.
        restart (float): Probability to stop after a step, above 0 to 1. Defaults to 0.5.
        edges (str): ``'mutual'`` or ``'all'``. Defaults to ``'mutual'``.

    Returns:
        tuple[Tensor, Tensor]: Row index, int64, and weight, float32, both ``(B, L)`` with
        ``L = F * (1 + k + ... + k**(hops - 1))``. A row that several walks reach stands there
        several times. Where the weight is 0 the index may be any.

    Raises:
        ValueError: If an option is outside its valid values.

    Example:
        >>> bank = torch.eye(3)
        >>> chain = torch.tensor([[1], [0], [1]])
        >>> first = (torch.tensor([[1], [1]]), torch.zeros(2, 1))
        >>> soft_walk(bank, chain, torch.tensor([0, 2]), first, hops=1, temperature=1.0)[1]
        tensor([[1.],
                [0.]])
    """
    require_choice('edges', edges, EDGES)
    require_positive('temperature', temperature, '0.05')
    require_range('hops', hops, 1, 16, 'the walk takes k ** hops steps')
    walks = first[0].size(1) * neighbours.size(1) ** (hops - 1)
    require_range('walks', walks, 1, MAX_WALKS, 'walk fewer hops, or keep fewer neighbours')
    if not 0 < restart <= 1:
        raise ValueError(f'restart = {restart} must be above 0 and at most 1.')
    index, similarity = first
    step = _step_weights(similarity, index, anchor[:, None], neighbours, temperature, edges)
    found = [(index.clamp(min=0), step)]
    for _ in range(hops - 1):
        source, weight = found[-1]
        found[-1] = (source, weight * restart)
        index = neighbours[source]
        rows = bank[index.clamp(min=0)].float()
        similarity = (rows * bank[source].float()[:, :, None]).sum(dim=3)
        step = _step_weights(similarity, index, source[:, :, None], neighbours, temperature, edges)
        weight = (weight * (1 - restart))[:, :, None] * step
        found.append((index.clamp(min=0).flatten(1), weight.flatten(1)))
    index, weight = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
    return index, weight.masked_fill(index == anchor[:, None], 0)


def _step_weights(
    similarity: Tensor,
    index: Tensor,
    source: Tensor,
    neighbours: Tensor,
    temperature: float,
    edges: str,
) -> Tensor:
    """Probability of each edge, 0 for one that does not exist or may not be taken."""
    weight = (similarity / temperature).softmax(dim=-1)
    allowed = index >= 0
    if edges == 'mutual':
        linked = neighbours[index.clamp(min=0)]
        allowed &= (linked == source[..., None]).any(dim=-1)
    return weight * allowed


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
