"""Time the exact kNN graph over a bank, the way the memories build it.

Example:
    python benchmarks/graph.py --num 20000 --dim 128 --k 4 --device cpu

First some rows of the graph are checked against a plain matrix product and ``topk``, which then is
the yardstick: the same blocks of rows, each with all its similarities.
"""

import argparse
import functools
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402
from mmselfsup_invp.ops.search import BACKENDS  # noqa: E402

CLUSTER = 100
# Rows of the yardstick at a time.
BLOCK = 256


def make_bank(args: argparse.Namespace) -> Tensor:
    """Draw a bank of clusters."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(-(-args.num // CLUSTER), args.dim, generator=generator)
    bank = centre[torch.arange(args.num) // CLUSTER]
    bank = bank + 0.8 * torch.randn(args.num, args.dim, generator=generator)
    return F.normalize(bank).to(args.device, getattr(torch, args.dtype))


def plain_rows(bank: Tensor, row: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The nearest others of some rows, from all their similarities."""
    similarity = bank[row] @ bank.T
    similarity.scatter_(1, row[:, None], -torch.inf)
    return similarity.topk(k, dim=1)


def plain_graph(bank: Tensor, k: int) -> Tensor:
    rows = torch.arange(len(bank), device=bank.device).split(BLOCK)
    return torch.cat([plain_rows(bank, row, k)[1] for row in rows])


def check(bank: Tensor, args: argparse.Namespace) -> None:
    """Raise unless some rows of the graph have the similarities of the nearest others."""
    row = torch.arange(0, len(bank), max(len(bank) // BLOCK, 1), device=bank.device)
    nearest = plain_rows(bank.float(), row, args.k)[0]
    found = ops.knn_graph(bank, args.k, backend=args.backend)[row]
    torch.testing.assert_close(ops.bank_similarity(bank[row].float(), bank, found), nearest)


def steps(args: argparse.Namespace) -> dict[str, common.Step]:
    bank = make_bank(args)
    return dict(
        ours=functools.partial(ops.knn_graph, bank, args.k, backend=args.backend),
        plain=functools.partial(plain_graph, bank, args.k),
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--num', type=int, default=20000, help='rows of the bank')
    parser.add_argument('--dim', type=int, default=128)
    parser.add_argument('--k', type=int, default=4, help='neighbours a row of the graph')
    parser.add_argument('--dtype', default='float32', choices=('float32', 'float16', 'bfloat16'))
    parser.add_argument(
        '--backend', default='auto', choices=('auto', *BACKENDS), help='of the search'
    )
    return common.parse(parser, lambda args: dict(k=args.num - 1))


def main() -> None:
    args = parse_args()
    if not args.worker:
        try:
            check(make_bank(args), args)
        except ValueError as error:  # The backend cannot be used.
            raise SystemExit(str(error)) from None
    title = (
        f'Neighbours agree. N = {args.num}, D = {args.dim}, k = {args.k}, {args.dtype} bank, '
        f'backend {args.backend}'
    )
    common.run(steps, args, title)


if __name__ == '__main__':
    main()
