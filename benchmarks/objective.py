"""Measure time and memory of one step of the InvP objective against the official formulation.

Example:
    python benchmarks/objective.py --num 50000 --dim 128 --batch 128 --m 4096 --device cpu

A step is the search, both losses, their gradient with respect to the query, and the update of the
rows of the batch in the graph and the bank. ``invp_step`` is what ``InvPHead`` uses; ``top_m and
both losses`` is the same step in separate calls. All formulations see the same data. The benchmark
first checks that they agree, then runs them in turn.
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
    """Results that the formulations must agree in: mean losses and the gradient."""

    instance: Tensor
    propagation: Tensor
    grad: Tensor


def make_problem(args: argparse.Namespace) -> Problem:
    """Draw a bank of clusters, neighbours in the same cluster and queries near their rows."""
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


def update(problem: Problem, query: Tensor, neighbours: Tensor) -> None:
    """Write the batch into the graph and the bank."""
    problem.neighbours[problem.anchor] = neighbours
    official.update_bank(problem.bank, problem.anchor, query.detach())


def paper_sampling(args: argparse.Namespace) -> ops.HardSampling:
    return ops.HardSampling(args.temperature, args.m, args.num_hard)


def invp_step(problem: Problem, args: argparse.Namespace) -> Outcome:
    """Take a step with ``ops.invp_step``, as ``InvPHead`` does."""
    query = F.normalize(problem.feature)
    positive = ops.propagate(problem.neighbours, problem.anchor, args.hops)
    step = ops.invp_step(
        query, problem.bank, problem.anchor, positive, paper_sampling(args),
        num_neighbours=args.k, backend=args.backend,
    )  # fmt: skip
    grad = gradient(step.instance, step.propagation, problem.feature)
    update(problem, query, step.neighbours)
    return Outcome(step.instance, step.propagation, grad)


def separate_calls(problem: Problem, args: argparse.Namespace) -> Outcome:
    """Take the same step with ``top_m`` and the two losses, as their examples show."""
    bank, anchor = problem.bank, problem.anchor
    query = F.normalize(problem.feature)
    sampling = paper_sampling(args)
    nearest = ops.top_m(query, bank, args.m, exclude=anchor, sort=False, backend=args.backend)
    positive = ops.propagate(problem.neighbours, anchor, args.hops)
    instance = ops.instance_loss(query, bank, anchor, nearest, sampling)
    propagation = ops.propagation_loss(query, bank, anchor, nearest, positive, sampling)
    grad = gradient(instance, propagation, problem.feature)
    best = nearest.similarity.topk(args.k, dim=1).indices
    update(problem, query, nearest.index.gather(1, best))
    return Outcome(instance.mean(), propagation.mean(), grad)


def official_choices(problem: Problem, args: argparse.Namespace) -> Outcome:
    """Take a step with our operations and the choices of the released code."""
    query = F.normalize(problem.feature)
    sampling = ops.HardSampling(
        args.temperature, args.m, args.num_hard,
        background='official', instance_background='topm', eps=official.EPS,
    )  # fmt: skip
    positive = ops.propagate(problem.neighbours, problem.anchor, args.hops, mode='concat')
    step = ops.invp_step(
        query, problem.bank, problem.anchor, positive, sampling,
        num_neighbours=args.k, backend=args.backend,
    )  # fmt: skip
    grad = gradient(step.instance, step.propagation, problem.feature)
    update(problem, query, step.neighbours)
    return Outcome(step.instance, step.propagation, grad)


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
    return Outcome(instance.mean(), propagation.mean(), grad)


def gradient(instance: Tensor, propagation: Tensor, feature: Tensor) -> Tensor:
    total = instance.mean() + WEIGHT * propagation.mean()
    return torch.autograd.grad(total, feature)[0]


def check(problem: Problem, args: argparse.Namespace) -> None:
    """Raise unless equal choices give equal numbers and state."""
    for one, other in ((official_choices, official_step), (separate_calls, invp_step)):
        left, right = problem.copy(), problem.copy()
        ours, theirs = one(left, args), other(right, args)
        for name in ('instance', 'propagation', 'grad'):
            torch.testing.assert_close(
                getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-5,
                msg=lambda text, name=name: f'{name} differs: {text}',
            )  # fmt: skip
        torch.testing.assert_close(left.bank, right.bank)
        if not torch.equal(left.neighbours.sort(dim=1)[0], right.neighbours.sort(dim=1)[0]):
            raise AssertionError('the updated rows of the graph differ')


def steps(args: argparse.Namespace) -> dict[str, common.Step]:
    """The formulations, each with its own state, which its steps change."""
    problem = make_problem(args)
    formulations = {
        'invp_step': invp_step,
        'top_m and both losses': separate_calls,
        'official': official_step,
    }
    return {
        name: functools.partial(step, problem.copy(), args) for name, step in formulations.items()
    }


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
