"""The inter-image branch of InterCLR in MMSelfSup 0.x, the baseline of ``inter_branch.py``.

A re-implementation. Labels are kept on the CPU; the positive is drawn from a search through all
labels for each image; the pool of the semi strategies has the nearest (or farthest) rows of the
whole bank, and negatives of the image's own cluster are drawn again until none is left.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def draw_positive(label: Tensor, anchor: Tensor) -> Tensor:
    """A row of each anchor's cluster, int64, ``(B,)``."""
    drawn = []
    for own in label[anchor.cpu()]:
        members = torch.where(label == own)[0]
        drawn.append(members[torch.randint(len(members), (1,))])
    return torch.cat(drawn).to(anchor.device)


def draw_hard(query: Tensor, bank: Tensor, label: Tensor, anchor: Tensor, num: int, _: int):
    """The nearest rows of other clusters, filtered row by row from a longer sorted list."""
    own = label[anchor.cpu()]
    largest = int(label.bincount().max())
    index = (query @ bank.T).topk(num + largest, dim=1).indices.cpu()
    rows = [row[label[row] != mine][:num] for row, mine in zip(index, own, strict=True)]
    return torch.stack(rows).to(query.device)


def draw_random(query: Tensor, bank: Tensor, label: Tensor, anchor: Tensor, num: int, _: int):
    """Uniform rows; those of the own cluster are drawn again."""
    own = label[anchor.cpu()][:, None]
    index = torch.randint(len(bank), (len(query), num), device=query.device)
    while (wrong := (label[index.cpu()] == own).to(query.device)).any():
        index[wrong] = torch.randint(len(bank), (int(wrong.sum()),), device=query.device)
    return index


def _draw_pooled(
    query: Tensor, bank: Tensor, label: Tensor, anchor: Tensor, num: int, pool: int, nearest: bool
) -> Tensor:
    own = label[anchor.cpu()][:, None]
    candidates = (query @ bank.T).topk(pool, dim=1, largest=nearest, sorted=False).indices
    weights = torch.ones(len(query), pool, device=query.device)
    index = candidates.gather(1, torch.multinomial(weights, num))
    while (wrong := (label[index.cpu()] == own).to(query.device)).any():
        again = candidates.gather(1, torch.multinomial(weights, num))
        index[wrong] = again[wrong]
    return index


def draw_semi_hard(query: Tensor, bank: Tensor, label: Tensor, anchor: Tensor, num: int, pool: int):
    """From the ``pool`` nearest rows of the whole bank, without the own cluster."""
    return _draw_pooled(query, bank, label, anchor, num, pool, nearest=True)


def draw_semi_easy(query: Tensor, bank: Tensor, label: Tensor, anchor: Tensor, num: int, pool: int):
    """From the ``pool`` farthest rows of the whole bank, without the own cluster."""
    return _draw_pooled(query, bank, label, anchor, num, pool, nearest=False)


DRAWS: dict[str, Callable[..., Tensor]] = {
    'hard': draw_hard,
    'semi_hard': draw_semi_hard,
    'random': draw_random,
    'semi_easy': draw_semi_easy,
}


def loss(
    query: Tensor, bank: Tensor, positive: Tensor, negative: Tensor, temperature: float,
    margin: float,
) -> Tensor:  # fmt: skip
    """Mean loss of a batch, from the gathered features of all negatives, ``(B, K, D)``."""
    own = (bank.index_select(0, positive) * query).sum(dim=1, keepdim=True) - margin
    features = bank.index_select(0, negative.flatten()).view(*negative.shape, -1)
    others = torch.bmm(features, query[:, :, None]).squeeze(2)
    logits = torch.cat([own, others], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))
