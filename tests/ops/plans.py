"""Log probabilities, the transport plan and its cost, for the tests of the labels."""

import torch

from mmselfsup_invp.ops.sinkhorn import scale_classes

# C-G1, C-G2 and C-G3 of METHODS.
THREE = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]], dtype=torch.float64).log()
FOUR = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], dtype=torch.float64).log()
SIX = torch.tensor(
    [[2, 0, 0], [1.5, 0.2, 0], [1.2, 0.3, 0.1], [1, 0.9, 0], [0.8, 0.1, 0.7], [0.5, 0.4, 0.45]],
    dtype=torch.float64,
).log_softmax(dim=1)


def log_prob_of(rows, classes, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits.log_softmax(dim=1).to(dtype)


def plan(log_prob, lambd, tol, max_iter=10_000, criterion='official'):
    """Q at the stop, ``(N, K)``."""
    scaling = scale_classes(lambda: [log_prob], lambd, tol, max_iter, criterion)
    return (lambd * log_prob + scaling.log_class).softmax(dim=1) / len(log_prob)


def cost_of(log_prob, labels):
    return -sum(float(log_prob[i, y]) for i, y in enumerate(labels)) / len(log_prob)
