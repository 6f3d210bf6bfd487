"""Time one step of the InvP objective against the official formulation, and weigh its memory.

Example:
    python benchmarks/objective.py --num 50000 --dim 128 --batch 128 --m 4096 --device cpu

A step is the search, both losses, their gradient at the query, the refresh of the batch's rows of
the graph and the moving average of its rows of the bank. Both formulations see the same data;
first it is checked that they agree where they should, then they take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import official  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402

WEIGHT = 0.6
CLUSTER = 100
MIB = 2**20


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


Step = Callable[[Problem, argparse.Namespace], Outcome]


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
    known, background = ops.top_m(query, bank, args.m + 1, sort=False)
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
    known, background = ops.top_m(query, bank, args.m)
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


STEPS: dict[str, Step] = {'ours': our_step, 'official': official_step}


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


def time_alternately(
    problem: Problem, args: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each step, taking turns; the first turn only warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in STEPS}
    problems = {name: problem.copy() for name in STEPS}
    for turn in range(args.repeats + 1):
        for name, step in STEPS.items():
            wait(args.device)
            wall, cpu = time.perf_counter(), time.process_time()
            step(problems[name], args)
            wait(args.device)
            if turn:
                spent = time.perf_counter() - wall, time.process_time() - cpu
                seconds[name].append(spent)
    return seconds


def wait(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize(device)


def peak_memory(name: str, args: argparse.Namespace) -> int:
    """Bytes that a second step holds at its peak on top of what stood before it."""
    if args.device == 'cpu':
        command = [sys.executable, __file__, *sys.argv[1:], '--worker', name]
        # Every block of 64 KiB or more is given back when freed, so that the resident size says
        # what is in use.
        environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(2**16)}
        return int(subprocess.check_output(command, env=environment))
    problem = make_problem(args)
    STEPS[name](problem, args)
    torch.cuda.reset_peak_memory_stats(args.device)
    before = torch.cuda.memory_allocated(args.device)
    STEPS[name](problem, args)
    return torch.cuda.max_memory_allocated(args.device) - before


def resident_growth(step: Step, args: argparse.Namespace) -> int:
    """Growth of this process's peak resident size over a step (Linux)."""
    problem = make_problem(args)
    step(problem, args)
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmHWM')
    step(problem, args)
    return resident('VmHWM') - before


def resident(key: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def report(
    seconds: dict[str, list[tuple[float, float]]], memory: dict[str, int], console: Console
) -> None:
    """Print medians; CPU time is what a step costs however busy the machine is."""
    table = Table('formulation', 'step', 'speed', 'CPU time', 'speed', 'extra memory', 'share')
    medians = {
        name: [statistics.median(times) for times in zip(*pairs, strict=True)]
        for name, pairs in seconds.items()
    }
    for name, times in medians.items():
        cells = []
        for spent, yardstick in zip(times, medians['official'], strict=True):
            cells += [f'{spent * 1e3:.1f} ms', f'{yardstick / spent:.2f} x']
        share = memory[name] / memory['official']
        table.add_row(name, *cells, f'{memory[name] / MIB:.1f} MiB', f'{share:.3f}')
    console.print(table)


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
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', default='float32', choices=('float32', 'float16', 'bfloat16'))
    parser.add_argument('--threads', type=int, help='CPU threads; as PyTorch chooses if not given')
    parser.add_argument('--repeats', type=int, default=15, help='timed steps of each')
    parser.add_argument('--worker', choices=STEPS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.worker:
        print(resident_growth(STEPS[args.worker], args))
        return
    problem = make_problem(args)
    check(problem, args)
    console = Console()
    console.print(
        f'N = {args.num}, D = {args.dim}, B = {args.batch}, M = {args.m}, {args.dtype} bank, '
        f'{args.device}, torch {torch.__version__}, {torch.get_num_threads()} threads: '
        'losses, gradient and state agree.'
    )
    memory = {name: peak_memory(name, args) for name in STEPS}
    report(time_alternately(problem, args), memory, console)


if __name__ == '__main__':
    main()
