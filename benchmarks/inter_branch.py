"""Measure time and memory of the inter-image branch of InterCLR against MMSelfSup 0.x.

Example:
    python benchmarks/inter_branch.py --num 50000 --dim 128 --batch 32 --k 4096 --device cpu

A step draws a positive and K negatives for each query, and computes the loss and its gradient with
respect to the query. Both formulations see the same data. The benchmark first checks that they
agree.
"""

import argparse
import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402
import official_interclr as official  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402

TEMPERATURE, MARGIN, POOL_RATIO = 0.1, -0.5, 0.1


@dataclass
class Problem:
    """Bank and labels, and one batch of unnormalised features with their rows."""

    bank: Tensor
    label: Tensor
    anchor: Tensor
    feature: Tensor


def make_problem(args: argparse.Namespace) -> Problem:
    """Draw a bank of clusters; queries lie near their own rows."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(args.clusters, args.dim, generator=generator)
    label = torch.randint(args.clusters, (args.num,), generator=generator)
    bank = centre[label] + 1.5 * torch.randn(args.num, args.dim, generator=generator)
    anchor = torch.randperm(args.num, generator=generator)[: args.batch]
    feature = bank[anchor] + 0.4 * torch.randn(args.batch, args.dim, generator=generator)
    return Problem(
        bank=F.normalize(bank).to(args.device),
        label=label.to(args.device),
        anchor=anchor.to(args.device),
        feature=feature.to(args.device).requires_grad_(),
    )


def our_loss(
    query: Tensor, bank: Tensor, positive: Tensor, negative: Tensor, known: Tensor | None = None
) -> Tensor:
    """As ``OnlineClusterBranch`` computes it."""
    own = ops.bank_similarity(query, bank, positive[:, None]).squeeze(1)
    others = ops.bank_similarity(query, bank, negative, known)
    return ops.margin_nce(own, others, TEMPERATURE, MARGIN).mean()


def our_step(problem: Problem, args: argparse.Namespace) -> Tensor:
    bank, label, own = problem.bank, problem.label, problem.label[problem.anchor]
    query = F.normalize(problem.feature)
    positive = ops.sample_positive(label, own)
    known, negative = ops.sample_negatives(
        args.negatives, query.detach(), bank, label, own, args.k, POOL_RATIO
    )
    loss = our_loss(query, bank, positive, negative, known)
    return torch.autograd.grad(loss, problem.feature)[0]


def official_step(problem: Problem, args: argparse.Namespace) -> Tensor:
    bank, label = problem.bank, problem.label  # Labels on the CPU.
    query = F.normalize(problem.feature)
    positive = official.draw_positive(label, problem.anchor)
    with torch.no_grad():
        negative = official.DRAWS[args.negatives](
            query, bank, label, problem.anchor, args.k, int(POOL_RATIO * args.num)
        )
    loss = official.loss(query, bank, positive, negative, TEMPERATURE, MARGIN)
    return torch.autograd.grad(loss, problem.feature)[0]


def check(problem: Problem, args: argparse.Namespace) -> None:
    """Raise unless equal draws give equal losses and gradients, and the pools are alike."""
    bank, label, anchor = problem.bank, problem.label.cpu(), problem.anchor
    query = F.normalize(problem.feature)
    own = problem.label[anchor]
    positive = official.draw_positive(label, anchor)
    negative = official.DRAWS[args.negatives](
        query.detach(), bank, label, anchor, args.k, int(POOL_RATIO * args.num)
    )
    ours = our_loss(query, bank, positive, negative)
    theirs = official.loss(query, bank, positive, negative, TEMPERATURE, MARGIN)
    torch.testing.assert_close(ours, theirs)
    grads = (
        torch.autograd.grad(loss, problem.feature, retain_graph=True)[0] for loss in (ours, theirs)
    )
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)
    known, drawn = ops.sample_negatives(
        args.negatives, query.detach(), bank, problem.label, own, args.k, POOL_RATIO
    )
    torch.testing.assert_close(known, (query @ bank.T).gather(1, drawn))
    for index in (negative, drawn):
        if (problem.label[index] == own[:, None]).any():
            raise AssertionError('a negative is of the own cluster')
    means = [(query @ bank.T).gather(1, index).mean() for index in (negative, drawn)]
    # The pools differ in the rows of the own cluster.
    torch.testing.assert_close(*means, rtol=0.05, atol=0.01)


def steps(args: argparse.Namespace) -> dict[str, common.Step]:
    problem = make_problem(args)
    kept_on_cpu = Problem(problem.bank, problem.label.cpu(), problem.anchor, problem.feature)
    return {
        'ours': functools.partial(our_step, problem, args),
        'MMSelfSup 0.x': functools.partial(official_step, kept_on_cpu, args),
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--num', type=int, default=50000, help='rows of the bank')
    parser.add_argument('--dim', type=int, default=128)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--k', type=int, default=4096, help='negatives of each query')
    parser.add_argument('--clusters', type=int, default=400)
    parser.add_argument('--negatives', choices=official.DRAWS, default='semi_hard')
    return common.parse(parser, _largest)


def _largest(args: argparse.Namespace) -> dict[str, int]:
    """Upper bounds of the sizes; MMSelfSup 0.x draws no row of its pool twice."""
    return dict(batch=args.num, clusters=args.num, k=int(POOL_RATIO * args.num))


def main() -> None:
    args = parse_args()
    if not args.worker:
        check(make_problem(args), args)
    title = (
        f'Losses and gradients agree. N = {args.num}, D = {args.dim}, B = {args.batch}, '
        f'K = {args.k}, {args.clusters} clusters, {args.negatives}'
    )
    common.run(steps, args, title)


if __name__ == '__main__':
    main()
