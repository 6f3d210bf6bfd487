"""Time the search for the nearest rows of a bank.

Example:
    python benchmarks/search.py --num 50000 --dim 128 --batch 128 --m 4096 --device cpu

The reference is a product in the type of the bank and ``topk``. First both must find rows of the
same similarities. ``--order classes`` puts the rows of a class side by side, as they are in a list
of images in class folders.

``--constants`` compares settings of the constants of the Triton kernel instead, the fastest first;
the reference has those of the source. Names and values restrict it::

    python benchmarks/search.py --device cuda --constants FILTER_WARPS=4,8 FILTER_STAGES=2,3,4
"""

import argparse
import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT.parent)]

import common  # noqa: E402

from mmselfsup_invp import ops  # noqa: E402
from mmselfsup_invp.ops.search import BACKENDS, fallbacks, self_test  # noqa: E402

CLASSES = 1000
# Similarities differ by the rounding of the sums, and of the queries where the bank is bfloat16.
TOLERANCE = 2**-15
# The values that --constants tries, all combinations; see ops/search/triton.py.
CONSTANTS = dict(
    QUERY_BYTES=[128, 256],
    ROW_BYTES=[64, 128, 256],
    FILTER_WARPS=[4, 8],
    FILTER_STAGES=[2, 3, 4],
    FLOAT32_PRODUCTS=['ieee', 'tf32x3'],
)

Setting = dict[str, int | str]
Search = Callable[[], ops.Neighbours]


def make_problem(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Draw a bank of classes and queries near some of its rows, both of unit rows."""
    generator = torch.Generator(args.device).manual_seed(0)
    options = dict(generator=generator, device=args.device)
    label = torch.randint(CLASSES, (args.num,), **options)
    if args.order == 'classes':
        label = label.sort().values
    bank = torch.randn(CLASSES, args.dim, **options)[label]
    bank += 1.2 * torch.randn(args.num, args.dim, **options)
    bank = F.normalize(bank).to(getattr(torch, args.dtype))
    row = torch.randint(args.num, (args.batch,), **options)
    query = bank[row].float() + 0.02 * torch.randn(args.batch, args.dim, **options)
    return F.normalize(query), bank


def plain(query: Tensor, bank: Tensor, m: int) -> ops.Neighbours:
    """The nearest rows in any order, from all similarities in the type of the bank."""
    return ops.Neighbours(*(query.to(bank.dtype) @ bank.T).topk(m, dim=1, sorted=False))


def steps(args: argparse.Namespace) -> dict[str, common.Step]:
    query, bank = make_problem(args)
    search = functools.partial(ops.top_m, query, bank, args.m, sort=False, backend=args.backend)
    if args.constants is None:
        return {'top_m': search, 'matmul and topk': functools.partial(plain, query, bank, args.m)}
    return tuned_steps(args, search)


def check(args: argparse.Namespace) -> None:
    """Raise unless the rows found have the highest similarities, computed in float32."""
    query, bank = make_problem(args)
    found = ops.top_m(query, bank, args.m, backend=args.backend)
    expected = plain(query, bank.float(), args.m).similarity.sort(descending=True).values
    for similarity in (found.similarity, ops.bank_similarity(query, bank, found.index)):
        torch.testing.assert_close(similarity, expected, rtol=0, atol=TOLERANCE)
    if (found.index.sort(dim=1).values.diff(dim=1) == 0).any():
        raise AssertionError('a query found a row twice')


def tuned_steps(args: argparse.Namespace, search: Search) -> dict[str, common.Step]:
    """The search with all settings of the constants that the device can run."""
    kernels = self_test.kernels()
    shipped = {name: getattr(kernels, name) for name in args.constants}
    reference = functools.partial(search_with, shipped, kernels, search)
    expected = reference().similarity.sort().values
    found = {}
    for values in itertools.product(*args.constants.values()):
        setting = dict(zip(args.constants, values, strict=True))
        step = functools.partial(search_with, setting, kernels, search)
        name = ' '.join(f'{name}={value}' for name, value in setting.items())
        if setting != shipped and runs(name, step, expected):
            found[name] = step
    return found | {'shipped constants': reference}


def search_with(setting: Setting, kernels: ModuleType, search: Search) -> ops.Neighbours:
    """Search with these constants."""
    vars(kernels).update(setting)
    return search()


def runs(name: str, step: Search, expected: Tensor) -> bool:
    """Whether the kernel compiles and starts with a setting; raise if it finds something else."""
    from triton.errors import TritonError

    try:
        similarity = step().similarity.sort().values
    except TritonError as error:
        print(f'{name}: {error}')
        return False
    torch.testing.assert_close(similarity, expected, rtol=0, atol=TOLERANCE)
    return True


def constant(text: str) -> tuple[str, list[int | str]]:
    """Read ``NAME=VALUE,VALUE``."""
    name, _, values = text.partition('=')
    if name not in CONSTANTS or not values:
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=VALUE,... of {[*CONSTANTS]}')
    return name, [int(value) if value.isdigit() else value for value in values.split(',')]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--num', type=int, default=50000, help='rows of the bank')
    parser.add_argument('--dim', type=int, default=128)
    parser.add_argument('--batch', type=int, default=128, help='queries')
    parser.add_argument('--m', type=int, default=4096, help='rows to find for each query')
    parser.add_argument('--order', default='random', choices=('random', 'classes'))
    parser.add_argument('--dtype', default='float32', choices=('float32', 'float16', 'bfloat16'))
    parser.add_argument('--backend', default='auto', choices=('auto', *BACKENDS))
    parser.add_argument(
        '--constants', type=constant, nargs='*', metavar='NAME=VALUE,...',
        help='compare settings of the Triton kernel',
    )  # fmt: skip
    args = common.parse(parser, lambda args: dict(m=args.num))
    if args.constants is not None:
        args.backend, args.constants = 'triton', dict(args.constants) or dict(CONSTANTS)
        if args.dtype != 'float32':
            args.constants.pop('FLOAT32_PRODUCTS', None)
    return args


def main() -> None:
    args = parse_args()
    if not args.worker:
        try:
            check(args)
        except ValueError as error:  # The backend cannot be used.
            raise SystemExit(str(error)) from None
    title = (
        f'Similarities agree. N = {args.num}, D = {args.dim}, B = {args.batch}, M = {args.m}, '
        f'{args.dtype} bank, {args.order} order, backend {args.backend}'
    )
    common.run(steps, args, title, memory=args.constants is None)
    if not args.worker:
        print(f'{fallbacks()} queries were searched again, because the sample misled them.')


if __name__ == '__main__':
    main()
