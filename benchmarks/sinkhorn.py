"""Measure time and memory of the self-labelling solver against the official formulation.

Example:
    python benchmarks/sinkhorn.py --num 50000 --classes 300 --device cpu

Ours works on float32 log-probabilities in blocks; the official one on powers of probabilities, all
of them at once in float64 (re-implemented here). The benchmark first checks that both give the same
labels, of at most 50,000 images. A step is one solution of so many passes, from the
log-probabilities to the labels.

``--against reading`` compares with as many sums of all log-probabilities instead, that is with the
bandwidth of the memory. The official formulation needs another 16 bytes for each log-probability.
"""

import argparse
import functools
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402

from mmselfsup_invp.ops import sinkhorn_labels  # noqa: E402

IMAGENET, IMAGENET_CLASSES = 1_281_167, 3000
# Features of a ResNet-50 and of AlexNet.
WIDTHS = {'ResNet-50': 2048, 'AlexNet': 4096}
DIM = 64
# Images with which the labels are compared, at most.
CHECKED = 50_000
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


def ours(log_prob: Tensor, args: argparse.Namespace) -> Tensor:
    """Labels after the passes asked for."""
    return sinkhorn_labels(log_prob, args.lambd, tol=1e-30, max_iter=args.passes)[0]


def official(log_prob: Tensor, args: argparse.Namespace) -> Tensor:
    """Labels after as many passes of the released loop, which keeps the matrix as K x N."""
    power = (log_prob.double().exp() ** args.lambd).T
    num_classes, num = power.shape
    row = power.new_full((num_classes, 1), 1 / num_classes)
    column = power.new_full((num, 1), 1 / num)
    for counter in range(args.passes):
        row = 1 / num_classes / (power @ column)
        new = (1 / num / (row.T @ power)).T
        if counter % 10 == 0:
            (column / new - 1).abs().sum().item()
        column = new
    power *= column.squeeze(1)
    power.T.mul_(row.squeeze(1))
    return power.argmax(dim=0)


def reading(log_prob: Tensor, args: argparse.Namespace) -> Tensor:
    """Read the log-probabilities once for each pass."""
    for _ in range(args.passes):
        total = log_prob.sum()
    return total


FORMULATIONS = {'official': official, 'reading': reading}


def steps(args: argparse.Namespace) -> dict[str, common.Step]:
    log_prob = make_log_prob(args)
    return {
        'ours': functools.partial(ours, log_prob, args),
        args.against: functools.partial(FORMULATIONS[args.against], log_prob, args),
    }


def check(args: argparse.Namespace) -> float:
    """Share of the images that both label alike; raise unless that is nearly all."""
    num = min(args.num, CHECKED)
    args = argparse.Namespace(**{**vars(args), 'num': num, 'classes': min(args.classes, num)})
    log_prob = make_log_prob(args)
    share = (ours(log_prob, args) == official(log_prob, args)).float().mean().item()
    if share < 0.999:
        raise AssertionError(f'only {share:.1%} of the labels agree; lower --scale or --lambd')
    return share


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
    parser.add_argument('--lambd', type=float, default=25.0, help='lambda')
    parser.add_argument('--scale', type=float, default=1.0, help='spread of the logits')
    parser.add_argument('--passes', type=int, default=50)
    parser.add_argument('--against', choices=FORMULATIONS, default='official')
    return common.parse(parser, lambda args: dict(classes=args.num))


def main() -> None:
    args = parse_args()
    share = None if args.worker else check(args)
    size = args.num * args.classes * 4 / common.MIB
    title = (
        f'{share or 0:.2%} of the labels are the same. N = {args.num}, K = {args.classes}, '
        f'lambda = {args.lambd:g}, {args.passes} passes; {size:.1f} MiB of log-probabilities'
    )
    common.run(steps, args, title)
    if not args.worker:
        project()


if __name__ == '__main__':
    main()
