"""Time a pass of the self-labelling solver against the official formulation, and weigh both.

Example:
    python benchmarks/sinkhorn.py --num 50000 --classes 300 --device cpu

Ours works on float32 log-probabilities in blocks; the official one on powers of probabilities, all
of them at once in float64 (told again in our own words). First it is checked that both give the
same labels, then they take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

from objective import MIB, resident, wait  # noqa: E402

from mmselfsup_invp.ops import sinkhorn_labels  # noqa: E402

IMAGENET, IMAGENET_CLASSES = 1_281_167, 3000
# Features of a ResNet-50 and of AlexNet.
WIDTHS = {'ResNet-50': 2048, 'AlexNet': 4096}
DIM = 64
GIB = 2**30


def make_log_prob(args: argparse.Namespace) -> Tensor:
    """Draw the predictions of a network that is sure of little: log_softmax of random logits."""
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(args.num, DIM, generator=generator)
    weight = args.scale * torch.randn(args.classes, DIM, generator=generator) / DIM**0.5
    feature, weight = feature.to(args.device), weight.to(args.device)
    out = torch.empty(args.num, args.classes, device=args.device)
    for rows in torch.arange(args.num, device=args.device).split(2**13):
        out[rows] = (feature[rows] @ weight.T).log_softmax(dim=1)
    return out


def ours(log_prob: Tensor, passes: int, args: argparse.Namespace) -> Tensor:
    """Labels after so many passes."""
    return sinkhorn_labels(log_prob, args.strength, tol=1e-30, max_iter=passes)[0]


def official(log_prob: Tensor, passes: int, args: argparse.Namespace) -> Tensor:
    """Labels after so many passes of the released loop, which keeps the matrix as K x N."""
    power = (log_prob.double().exp() ** args.strength).T
    num_classes, num = power.shape
    row = power.new_full((num_classes, 1), 1 / num_classes)
    column = power.new_full((num, 1), 1 / num)
    for counter in range(passes):
        row = 1 / num_classes / (power @ column)
        new = (1 / num / (row.T @ power)).T
        if counter % 10 == 0:
            (column / new - 1).abs().sum().item()
        column = new
    power *= column.squeeze(1)
    power.T.mul_(row.squeeze(1))
    return power.argmax(dim=0)


SOLVERS = {'ours': ours, 'official': official}


def check(log_prob: Tensor, args: argparse.Namespace) -> float:
    """Share of the images that both label alike; raise unless that is nearly all."""
    first, second = (solve(log_prob, args.passes, args) for solve in SOLVERS.values())
    share = (first == second).float().mean().item()
    if share < 0.999:
        raise AssertionError(f'only {share:.1%} of the labels agree; lower --scale or --strength')
    return share


def seconds(name: str, log_prob: Tensor, passes: int, args: argparse.Namespace) -> float:
    wait(args.device)
    start = time.perf_counter()
    SOLVERS[name](log_prob, passes, args)
    wait(args.device)
    return time.perf_counter() - start


def time_alternately(log_prob: Tensor, args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Seconds of a pass, and of what comes before and after them, in medians."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SOLVERS}
    few = 1
    for turn in range(args.repeats + 1):
        for name in SOLVERS:
            short = seconds(name, log_prob, few, args)
            long = seconds(name, log_prob, few + args.passes, args)
            one = (long - short) / args.passes
            if turn:
                found[name].append((one, short - few * one))
    return {
        name: tuple(statistics.median(times) for times in zip(*pairs, strict=True))
        for name, pairs in found.items()
    }


def peak_memory(name: str, args: argparse.Namespace) -> int:
    """Bytes that solving holds at its peak on top of the log-probabilities."""
    if args.device == 'cpu':
        command = [sys.executable, __file__, *sys.argv[1:], '--worker', name]
        environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': str(2**16)}
        return int(subprocess.check_output(command, env=environment))
    log_prob = make_log_prob(args)
    torch.cuda.reset_peak_memory_stats(args.device)
    before = torch.cuda.memory_allocated(args.device)
    SOLVERS[name](log_prob, 2, args)
    return torch.cuda.max_memory_allocated(args.device) - before


def resident_growth(name: str, args: argparse.Namespace) -> int:
    """Growth of this process's peak resident size while solving (Linux)."""
    log_prob = make_log_prob(args)
    SOLVERS[name](log_prob[:1000], 2, args)
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmHWM')
    SOLVERS[name](log_prob, 2, args)
    return resident('VmHWM') - before


def report(
    times: dict[str, tuple[float, float]], memory: dict[str, int], args: argparse.Namespace
) -> None:
    """Print what was measured."""
    console = Console()
    table = Table('formulation', 'a pass', 'speed', 'before and after', 'extra memory')
    for name, (one, rest) in times.items():
        speed = times['official'][0] / one
        table.add_row(
            name, f'{one * 1e3:.1f} ms', f'{speed:.2f} x', f'{rest * 1e3:.0f} ms',
            f'{memory[name] / MIB:.1f} MiB',
        )  # fmt: skip
    console.print(table)
    size = args.num * args.classes * 4
    console.print(f'log-probabilities, float32: {size / MIB:.1f} MiB')


def project() -> None:
    """Print the bytes of ImageNet, by counting."""
    console = Console()
    table = Table('ImageNet, K = 3000', 'features', 'log-probabilities, float32', 'float64 powers')
    matrix = IMAGENET * IMAGENET_CLASSES
    for name, width in WIDTHS.items():
        sizes = (IMAGENET * width * 4, matrix * 4, matrix * 8)
        table.add_row(name, *(f'{size / GIB:.1f} GiB' for size in sizes))
    console.print(table)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--num', type=int, default=50000, help='images')
    parser.add_argument('--classes', type=int, default=300)
    parser.add_argument('--strength', type=float, default=25.0, help='lambda')
    parser.add_argument('--scale', type=float, default=1.0, help='spread of the logits')
    parser.add_argument('--passes', type=int, default=20)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=0, help='0: as many as PyTorch takes')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--worker', choices=list(SOLVERS), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.worker:
        print(resident_growth(args.worker, args))
        return
    log_prob = make_log_prob(args)
    print(f'{check(log_prob, args):.2%} of the labels are the same after {args.passes} passes')
    times = time_alternately(log_prob, args)
    del log_prob
    report(times, {name: peak_memory(name, args) for name in SOLVERS}, args)
    project()


if __name__ == '__main__':
    main()
