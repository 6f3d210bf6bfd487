"""Time one step of the InvP objective against the official formulation, and weigh its memory.

Example:
    python benchmarks/objective.py --num 50000 --dim 128 --batch 128 --m 4096 --device cpu

A step is the search, both losses, their gradient at the query, the refresh of the batch's rows of
the graph and the moving average of its rows of the bank. Both formulations see the same data;
first it is checked that they agree where they should, then they take turns.
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
import official  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402
from mmselfsup_invp.ops.search import BACKENDS  # noqa: E402

WEIGHT = 0.6
CLUSTER = 100


@dataclass
class Problem:
    """The state of a run and one batch of unnormalised features with their data set indices."""

    bank: Tensor
    neighbours: Tensor
    anchor: Tensor
    feature: Tensor

    def copy(self) -> 'Problem':
        return Problem(self.bank.clone(), self.neighbours.clone(), self.anchor, self.feature)


@dataclass
class Outcome:
    """What a step must give alike in both formulations."""

    instance: Tensor
    propagation: Tensor
    grad: Tensor


def make_problem(args: argparse.Namespace) -> Problem:
    """Draw a bank of clusters; neighbours lie in the cluster, queries near their own rows."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(-(-args.num // CLUSTER), args.dim, generator=generator)
    row = torch.arange(args.num)
    cluster = row // CLUSTER
    bank = centre[cluster] + 0.8 * torch.randn(args.num, args.dim, generator=generator)
    shift = torch.randint(1, CLUSTER, (args.num, args.k), generator=generator)
    neighbours = cluster[:, None] * CLUSTER + (row[:, None] + shift) % CLUSTER
    anchor = torch.randperm(args.num, generator=generator)[: args.batch]
    feature = bank[anchor] + 0.4 * torch.randn(args.batch, args.dim, generator=generator)
    return Problem(
        bank=F.normalize(bank).to(args.device, getattr(torch, args.dtype)),
        neighbours=neighbours.clamp(max=args.num - 1).to(args.device),
        anchor=anchor.to(args.device),
        feature=feature.to(args.device).requires_grad_(),
    )


def our_step(problem: Problem, args: argparse.Namespace) -> Outcome:
    """Take a step the way ``InvPHead`` does: exact sets, eps 0."""
    bank, anchor = problem.bank, problem.anchor
    query = F.normalize(problem.feature)
    known, background = ops.top_m(query, bank, args.m + 1, sort=False, backend=args.backend)
    background, known = ops.exclude_anchor(background, anchor, known)
    similarity = ops.bank_similarity(query, bank, background, known)
    positive, mask = ops.propagate(problem.neighbours, anchor, args.hops)
    instance = ops.instance_loss(
        query, bank, anchor, background, args.temperature, similarity=similarity
    )
    propagation = ops.propagation_loss(
        query, bank, anchor, positive, mask, background, args.temperature, args.num_hard,
        similarity=similarity,
    )  # fmt: skip
    grad = gradient(instance, propagation, problem.feature)
    nearest = known.topk(args.k, dim=1)[1]
    problem.neighbours[anchor] = background.gather(1, nearest)
    official.update_bank(bank, anchor, query.detach())
    return Outcome(instance, propagation, grad)


def our_official_step(problem: Problem, args: argparse.Namespace) -> Outcome:
    """Take a step with our operations set to what the released code computes."""
    bank, anchor = problem.bank, problem.anchor
    query = F.normalize(problem.feature)
    known, background = ops.top_m(query, bank, args.m, backend=args.backend)
    similarity = ops.bank_similarity(query, bank, background, known)
    positive, mask = ops.propagate(problem.neighbours, anchor, args.hops, mode='concat')
    instance = ops.instance_loss(
        query, bank, anchor, background, args.temperature,
        background_mode='topm', eps=official.EPS, similarity=similarity,
    )  # fmt: skip
    propagation = ops.propagation_loss(
        query, bank, anchor, positive, mask, background, args.temperature, args.num_hard,
        background_mode='official', eps=official.EPS, similarity=similarity,
    )  # fmt: skip
    grad = gradient(instance, propagation, problem.feature)
    nearest = background[:, : args.k + 1]
    problem.neighbours[anchor] = ops.exclude_anchor(nearest, anchor)[0]
    official.update_bank(bank, anchor, query.detach())
    return Outcome(instance, propagation, grad)


def official_step(problem: Problem, args: argparse.Namespace) -> Outcome:
    """Take a step of the released code."""
    query = F.normalize(problem.feature)
    instance, propagation, index = official.losses(
        query, problem.bank, problem.neighbours, problem.anchor, temperature=args.temperature,
        num_background=args.m, num_hard=args.num_hard, hops=args.hops,
    )  # fmt: skip
    official.refresh_neighbours(problem.neighbours, problem.anchor, index)
    grad = gradient(instance, propagation, problem.feature)
    official.update_bank(problem.bank, problem.anchor, query.detach())
    return Outcome(instance, propagation, grad)


def gradient(instance: Tensor, propagation: Tensor, feature: Tensor) -> Tensor:
    total = instance.mean() + WEIGHT * propagation.mean()
    return torch.autograd.grad(total, feature)[0]


def check(problem: Problem, args: argparse.Namespace) -> None:
    """Raise unless ours, set to the official choices, gives the official numbers and state."""
    left, right = problem.copy(), problem.copy()
    ours, theirs = our_official_step(left, args), official_step(right, args)
    for name in ('instance', 'propagation', 'grad'):
        torch.testing.assert_close(
            getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-5,
            msg=lambda text, name=name: f'{name} differs: {text}',
        )  # fmt: skip
    torch.testing.assert_close(left.bank, right.bank)
    if not torch.equal(left.neighbours, right.neighbours):
        raise AssertionError('the refreshed rows of the graph differ')


def steps(args: argparse.Namespace) -> dict[str, common.Step]:
    """Both formulations, each with a state of its own, which its steps change."""
    problem = make_problem(args)
    return dict(
        ours=functools.partial(our_step, problem.copy(), args),
        official=functools.partial(official_step, problem.copy(), args),
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--num', type=int, default=50000, help='rows of the bank')
    parser.add_argument('--dim', type=int, default=128)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--m', type=int, default=4096, help='nearest rows taken as background')
    parser.add_argument('--k', type=int, default=4, help='neighbours a row of the graph')
    parser.add_argument('--hops', type=int, default=3)
    parser.add_argument('--num-hard', type=int, default=50)
    parser.add_argument('--temperature', type=float, default=0.07)
    parser.add_argument('--dtype', default='float32', choices=('float32', 'float16', 'bfloat16'))
    parser.add_argument(
        '--backend', default='auto', choices=('auto', *BACKENDS), help='of the search'
    )
    return common.parse(parser, lambda args: dict(batch=args.num, m=args.num - 1, k=args.num - 1))


def main() -> None:
    args = parse_args()
    if not args.worker:
        try:
            check(make_problem(args), args)
        except ValueError as error:  # The backend cannot be used.
            raise SystemExit(str(error)) from None
    title = (
        f'Losses, gradient and state agree. N = {args.num}, D = {args.dim}, B = {args.batch}, '
        f'M = {args.m}, {args.dtype} bank, backend {args.backend}'
    )
    common.run(steps, args, title)


if __name__ == '__main__':
    main()
