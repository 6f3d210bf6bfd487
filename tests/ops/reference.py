"""The definitions of the InvP paper and of its released code as slow loops in float64.

Written from the formulas, with nothing shared with the package: sums of plain exponentials, sets
as Python sets. Losses stay on the autograd graph, so that their gradients are references too.
"""

import torch
from torch import Tensor


def similarities(query: Tensor, bank: Tensor) -> Tensor:
    """s_ij, one inner product at a time."""
    query, bank = query.double(), bank.double()
    return torch.stack([torch.stack([(row * other).sum() for other in bank]) for row in query])


def top_m(query: Tensor, bank: Tensor, m: int) -> Tensor:
    """The m highest similarities of each query, descending."""
    return similarities(query, bank).sort(dim=1, descending=True).values[:, :m]


def knn_graph(bank: Tensor, k: int) -> list[list[int]]:
    """For each row the k nearest other rows by Euclidean distance, nearest first."""
    rows = bank.double()
    graph = []
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        others.sort(key=lambda j, row=row: (row - rows[j]).norm().item())
        graph.append(others[:k])
    return graph


def within(neighbours: list[list[int]], start: int, hops: int) -> set[int]:
    """All rows other than ``start`` at a directed distance of 1 to ``hops``; -1 is no edge."""
    distance = {start: 0}
    queue = [start]
    for node in queue:
        if distance[node] == hops:
            continue
        for other in neighbours[node]:
            if other >= 0 and other not in distance:
                distance[other] = distance[node] + 1
                queue.append(other)
    return set(distance) - {start}


def walks(neighbours: list[list[int]], start: int, hops: int) -> list[int]:
    """End points of all walks of 1 to ``hops`` steps in the released code's order."""
    ends = []
    frontier = [start]
    for _ in range(hops):
        frontier = [other for node in frontier if node >= 0 for other in neighbours[node]]
        ends += frontier
    return [end for end in ends if end >= 0]


def choose(similarity: list[float], num: int, hard: str) -> list[int]:
    """Positions of the ``num`` positives that enter the loss."""
    order = sorted(range(len(similarity)), key=lambda position: similarity[position])
    if hard == 'all':
        return order
    return order[:num] if hard == 'hard' else order[::-1][:num]


def instance_loss(
    query: Tensor,
    bank: Tensor,
    anchor: int,
    background: list[int] | None,
    temperature: float,
    mode: str,
    eps: float,
) -> Tensor:
    """L_ins of one query."""
    if background is None:
        denominator = list(range(len(bank)))
    elif mode == 'exact':
        denominator = sorted(set(background) | {anchor})
    else:
        denominator = background
    return -torch.log(
        exps(query, bank, [anchor], temperature) / exps(query, bank, denominator, temperature) + eps
    )


def propagation_loss(
    query: Tensor,
    bank: Tensor,
    anchor: int,
    positive: list[int],
    chosen: list[int],
    background: list[int] | None,
    temperature: float,
    mode: str,
    exclusive: bool,
    eps: float,
) -> Tensor:
    """L_inv of one query: ``chosen`` are the bank rows of N^h(i), ``positive`` those of N(i)."""
    if not positive:
        return query.sum() * 0
    own = exps(query, bank, [anchor], temperature)
    if background is None:
        denominator = exps(query, bank, list(range(len(bank))), temperature)
    elif mode == 'exact':
        # Positives chosen twice count twice above and below.
        rest = set(background) - set(positive) - {anchor}
        denominator = exps(query, bank, [*rest, *chosen], temperature)
    elif mode == 'topm':
        rest = [row for row in background if row != anchor or not exclusive]
        denominator = exps(query, bank, rest, temperature)
    else:
        denominator = exps(query, bank, background, temperature) - own * exclusive
    return -torch.log(exps(query, bank, chosen, temperature) / denominator + eps)


def exps(query: Tensor, bank: Tensor, rows: list[int], temperature: float) -> Tensor:
    """Sum of exp(s_ij / t) over the given rows of the bank."""
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        total = total + torch.exp((query * bank[row]).sum() / temperature)
    return total


# ---- clusters, by InterCLR and ODC ----


def assign(feature: Tensor, centroids: Tensor, metric: str) -> list[int]:
    """The nearest centroid of each feature, the first of equal ones."""
    found = []
    for row in feature.double():
        if metric == 'dot':
            away = [-(row * centroid).sum().item() for centroid in centroids.double()]
        else:
            away = [(row - centroid).norm().item() for centroid in centroids.double()]
        found.append(away.index(min(away)))
    return found


def cluster_means(feature: Tensor, label: list[int], centroids: Tensor) -> Tensor:
    """Mean of the members of each cluster; the old centroid where there are none."""
    means = centroids.double().clone()
    for cluster in range(len(centroids)):
        members = [row for row, own in enumerate(label) if own == cluster]
        if members:
            means[cluster] = sum(feature[row].double() for row in members) / len(members)
    return means


def negative_pool(
    strategy: str, query: Tensor, bank: Tensor, label: list[int], own: int, num: int, ratio: float
) -> set[int]:
    """The rows from which the negatives of one query are drawn."""
    candidates = [row for row in range(len(bank)) if label[row] != own]
    similarity = similarities(query[None], bank)[0].tolist()
    nearest = sorted(candidates, key=lambda row: -similarity[row])
    size = max(min(num, len(candidates)), -(-round(ratio * 1000) * len(candidates) // 1000))
    pools = {
        'hard': nearest[:num],
        'semi_hard': nearest[:size],
        'random': candidates,
        'semi_easy': nearest[::-1][:size],
    }
    return set(pools[strategy])


# ---- labels of equal size, by SeLa ----


def sinkhorn(prob: Tensor, lambd: float, tol: float) -> dict:
    """The released loop of SeLa on probabilities ``(N, K)``: powers in float64, no logarithm."""
    num, classes = prob.shape
    power = prob.double() ** lambd
    r = [1 / classes] * classes
    c = [1 / num] * num
    errors: list[float] = []
    passes = 0
    while not errors or errors[-1] > tol:
        sums = [sum(float(power[i, y]) * c[i] for i in range(num)) for y in range(classes)]
        if 0 in sums:
            raise ValueError('r is infinite, c is zero: the plan is all-NaN')
        r = [1 / classes / total for total in sums]
        new = [1 / num / sum(float(power[i, y]) * r[y] for y in range(classes)) for i in range(num)]
        if passes % 10 == 0:
            errors.append(sum(abs(old / fresh - 1) for old, fresh in zip(c, new, strict=True)))
        c = new
        passes += 1
    plan = power * torch.tensor(r).double() * torch.tensor(c).double()[:, None]
    labels = [max(range(classes), key=lambda y, row=row: row[y]) for row in plan.tolist()]
    return dict(plan=plan, labels=labels, passes=passes, errors=errors)
